"""After an attempt: which kind of end it was and what follows; both are written into its outcome.

The same on this machine, for packed runs and for a job of SLURM. No process on
the login node is needed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hyperformer.disk_space import is_disk_full
from hyperformer.errors import EvaluationOutOfMemory, HyperformerError
from hyperformer.run_files.checkpoint_folder import CheckpointFolder
from hyperformer.run_files.recovery import halve_evaluation, split_micro_batch, step_back
from hyperformer.run_files.run_folder import RunFolder
from launchers.job.classify_failure import Evidence, classify, slurm_end_reason
from launchers.plan.failure_kinds import KINDS, Failure, Kind
from launchers.plan.retry_policy import NextStep, RetryPolicy, next_step
from launchers.slurm import this_job
from launchers.store import circuit_breaker
from launchers.store.attempts import Attempt, Outcome, attempts, tail
from launchers.store.records import try_record
from launchers.store.sweep_folder import cancelled_note

# For a full disk: how long to wait for room, and how much is room.
_WAIT_S, _LOOK_S = 600.0, 10.0
_ROOM_BYTES = 64 << 20
# SLURM's line in the job's log comes a moment after it began to end the job.
_LINE_S = 2.0


@dataclass(frozen=True)
class EndedAttempt:
    """An attempt whose process has ended.

    Attributes:
        since: number of the first attempt after a user last asked for the run; the budget counts from it.
        exit_code: of the process, or of srun.
        job_log: where SLURM's daemons write; None on one machine.
    """

    attempt: Attempt
    since: int = 1
    exit_code: int | None = None
    job_log: Path | None = None

    @cached_property
    def outcome(self) -> Outcome | None:
        """What the run itself wrote."""
        return self.attempt.read_outcome()

    @cached_property
    def state(self) -> dict[str, Any]:
        """The run's state.json; {} where it is an earlier attempt's."""
        state = try_record(RunFolder(self.attempt.run_folder).state) or {}
        begun = self.attempt.read_started().get("started", 0)
        return state if state.get("updated", 0) >= begun else {}

    @property
    def step(self) -> int:
        return self.state.get("step") or 0

    @cached_property
    def before(self) -> list[Attempt]:
        """The attempts before it that count for the budget."""
        everyone = attempts(self.attempt.run_folder)
        return [each for each in everyone if self.since <= each.number < self.attempt.number]

    @property
    def progressed(self) -> bool:
        """Whether it made steps; one that came after others in its job had not the whole of the time limit."""
        late = any(each.start == self.attempt.start for each in self.before)
        return late or self.step > self.attempt.read_started().get("from_step", 0)

    def evidence(self) -> Evidence:
        job_log, ending = "", None
        if self.job_log:
            job_log, ending = tail(self.job_log, job_log_from()), this_job.ending()
            if ending and not slurm_end_reason(job_log):
                time.sleep(_LINE_S)
                job_log = tail(self.job_log, job_log_from())
        return Evidence(
            self.outcome,
            self.exit_code,
            tail(self.attempt.logs[1]),
            job_log,
            run_error=str(self.state.get("error") or ""),
            has_started=bool(self.attempt.read_started()),
            ending=ending,
        )


def finish_attempt(
    end: EndedAttempt, policy: RetryPolicy, sleep: Callable[[float], None] = time.sleep
) -> NextStep:
    """Find out how an attempt ended, do what its kind asks for, and write both into its outcome.

    Args:
        sleep: called while it waits for room on a full disk.

    Returns:
        Whether the run is at its end, starts again here, or goes back into the queue.
    """
    if end.outcome and end.outcome.then:
        return NextStep(end.outcome.then, end.outcome.why)
    failure = classify(end.evidence())
    if failure is None:
        return NextStep("end", "done")
    failure = _seen_from_outside(end, failure)
    outcomes = (each.read_outcome() for each in end.before)
    kinds = [outcome.kind for outcome in outcomes if outcome and outcome.kind]
    step = next_step(failure, kinds, end.progressed, policy)
    if step.action != "end":
        step = _prepare(failure.kind, end, step, sleep)
    try:
        _write(end, failure, step)
        if step.action == "end" and KINDS[failure.kind].counts_for_stop_after:
            circuit_breaker.count_failure(end.attempt.run_folder, failure, policy)
    except OSError as error:  # what was decided holds all the same
        print(f"{end.attempt.outcome_file} could not be written: {error.strerror}", file=sys.stderr)
    return step


def _seen_from_outside(end: EndedAttempt, failure: Failure) -> Failure:
    """What neither the run nor SLURM could tell."""
    folder = end.attempt.run_folder
    if cancelled_note(folder).exists():
        return Failure("cancelled", failure.message)
    if end.outcome is None and folder.exists() and not _has_room(folder):  # nothing could be written
        return Failure("disk_full", failure.message)
    return failure


def _write(end: EndedAttempt, failure: Failure, step: NextStep) -> None:
    outcome = end.outcome
    if outcome is None:  # the run had no time to write one
        stopped = step.action == "requeue" or failure.kind == "cancelled"
        status = "stopped" if stopped else "failed"
        outcome = Outcome(status, failure.message, error_type=failure.kind, exit_code=end.exit_code)
    decided = replace(outcome, kind=failure.kind, then=step.action, why=step.why, step=end.step)
    end.attempt.write_outcome(decided)


def _prepare(kind: Kind, end: EndedAttempt, step: NextStep, sleep: Callable[[float], None]) -> NextStep:
    """What must be done before the next start; where it cannot be done, this is the end."""
    folder = end.attempt.run_folder
    try:
        if kind == "out_of_gpu_memory":
            return NextStep(step.action, _less_at_once(end))
        if kind == "diverged":
            if len(CheckpointFolder(RunFolder(folder).checkpoints).names()) < 2:
                return NextStep("end", f"{step.why}, and there is no earlier checkpoint to resume from")
            return NextStep(step.action, step_back(RunFolder(folder)))
    except HyperformerError as error:
        return NextStep("end", f"{step.why}; {error}")
    if kind == "disk_full" and not _wait_for_room(folder, sleep):
        waited = f"for {_WAIT_S / 60:.0f} minutes now"
        return NextStep("end", f"{step.why}, {waited}; the last checkpoint is complete")
    return step


def _less_at_once(end: EndedAttempt) -> str:
    """Fewer rows per forward for the next start, unless the run itself has seen to that; says what is done."""
    run = RunFolder(end.attempt.run_folder)
    if end.outcome is not None and end.outcome.error_type == EvaluationOutOfMemory.__name__:
        return halve_evaluation(run, end.state.get("eval_rows"))
    return split_micro_batch(run, end.state.get("micro_batch_parts"))


def _wait_for_room(folder: Path, sleep: Callable[[float], None]) -> bool:
    """Wait until the disk takes files again; False if it does not for too long."""
    end = time.monotonic() + _WAIT_S
    while not _has_room(folder):
        if time.monotonic() > end:
            return False
        sleep(_LOOK_S)
    return True


def _has_room(folder: Path) -> bool:
    """Whether the disk takes a file of some size; a quota shows in no other way."""
    probe = folder / f".room.{os.getpid()}.tmp"  # named so, it is swept up if we are killed
    try:
        with probe.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, _room(folder))
    except OSError as error:
        return not is_disk_full(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return True


def _room(folder: Path) -> int:
    """Bytes that the run needs to continue: those of a checkpoint, and some more."""
    checkpoints = CheckpointFolder(RunFolder(folder).checkpoints)
    newest = checkpoints.newest()
    files = (checkpoints.path / newest).iterdir() if newest else ()
    return _ROOM_BYTES + sum(path.stat().st_size for path in files)


def job_log_from() -> int:
    """Where this start's part of the job's log begins; the batch script tells it."""
    text = os.environ.get("HYPERFORMER_LOG_FROM", "")
    return int(text) if text.isdecimal() else 0
