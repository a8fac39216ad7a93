"""After an attempt: what kind of end it was, what follows, and that it is written down.

The same on this machine, for packed runs and for a job of SLURM; nothing on
the login node has to live for it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hyperformer.disk_space import is_disk_full
from hyperformer.errors import HyperformerError
from hyperformer.run_files.checkpoint_folder import CheckpointFolder
from hyperformer.run_files.recovery import split_micro_batch, step_back
from hyperformer.run_files.run_folder import RunFolder
from launchers.job.classify import Evidence, classify
from launchers.plan.failure_kinds import KINDS, Failure, Kind
from launchers.plan.retry_policy import NextStep, RetryPolicy, next_step
from launchers.store import circuit_breaker
from launchers.store.attempts import Attempt, Outcome, attempts, tail
from launchers.store.records import try_record
from launchers.store.sweep_folder import cancelled_note

# For a full disk: how long to wait for room, and how much is room.
_WAIT_S, _LOOK_S = 600.0, 10.0
_ROOM_BYTES = 64 << 20


def settle(
    run_folder: Path,
    attempt: Attempt,
    policy: RetryPolicy,
    *,
    since: int,
    exit_code: int | None = None,
    job_log: Path | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> NextStep:
    """Find out how an attempt ended, do what its kind asks for, and write both into its outcome.

    Args:
        since: number of the first attempt after a user last asked for the run; the budget counts from it.
        job_log: where SLURM's daemons write.

    Returns:
        Whether the run is at its end, starts again here, or goes back into the queue.
    """
    outcome = attempt.read_outcome()
    if outcome and outcome.then:
        return NextStep(outcome.then, outcome.why)
    started, state = attempt.read_started(), try_record(RunFolder(run_folder).state) or {}
    if state.get("updated", 0) < started.get("started", 0):
        state = {}  # an earlier attempt's
    evidence = Evidence(
        outcome=outcome,
        exit_code=exit_code,
        log=tail(attempt.logs[1]),
        job_log=tail(job_log, job_log_from()) if job_log else "",
        run_error=str(state.get("error") or ""),
        has_started=bool(started),
    )
    failure = classify(evidence)
    if failure is None:
        return NextStep("end", "done")
    if cancelled_note(run_folder).exists():
        failure = Failure("cancelled", failure.message)
    elif outcome is None and run_folder.exists() and not _has_room(run_folder):
        # Whoever had something to say could not write it.
        failure = Failure("disk_full", failure.message)
    before = [entry for entry in attempts(run_folder) if since <= entry.number < attempt.number]
    ends = filter(None, (entry.read_outcome() for entry in before))
    kinds = [end.kind for end in ends if end.kind]
    step = state.get("step") or 0
    # One that came after others in its job had not the whole of the time limit.
    late = any(entry.start == attempt.start for entry in before)
    progressed = late or step > started.get("from_step", 0)
    decision = next_step(failure, kinds, progressed, policy)
    if decision.action != "end":
        decision = _prepare(failure.kind, run_folder, decision, sleep)
    try:
        ended = outcome or _ended_without_a_word(failure, decision, exit_code)
        attempt.write_outcome(
            replace(ended, kind=failure.kind, then=decision.action, why=decision.why, step=step)
        )
        if decision.action == "end" and KINDS[failure.kind].shared:
            circuit_breaker.count(run_folder, failure, policy)
    except OSError as error:  # what was decided holds all the same
        print(f"{attempt.outcome_file} could not be written: {error.strerror}", file=sys.stderr)
    return decision


def _prepare(kind: Kind, folder: Path, decision: NextStep, sleep: Callable[[float], None]) -> NextStep:
    """What must be done before the next start; where it cannot be done, this is the end."""
    try:
        if kind == "out_of_gpu_memory":
            return NextStep(decision.action, split_micro_batch(RunFolder(folder)))
        if kind == "diverged":
            if len(CheckpointFolder(RunFolder(folder).checkpoints).names()) < 2:
                return NextStep("end", f"{decision.why}, and there is no earlier checkpoint to go on from")
            return NextStep(decision.action, step_back(RunFolder(folder)))
    except HyperformerError as error:
        return NextStep("end", f"{decision.why}; {error}")
    if kind == "disk_full" and not _wait_for_room(folder, sleep):
        return NextStep(
            "end", f"{decision.why}, for {_WAIT_S / 60:.0f} minutes now; the last checkpoint is whole"
        )
    return decision


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
    """Bytes that the run needs to go on: those of a checkpoint, and some more."""
    checkpoints = CheckpointFolder(RunFolder(folder).checkpoints)
    newest = checkpoints.newest()
    files = (checkpoints.path / newest).iterdir() if newest else ()
    return _ROOM_BYTES + sum(path.stat().st_size for path in files)


def job_log_from() -> int:
    """Where this start's part of the job's log begins; the batch script tells it."""
    text = os.environ.get("HYPERFORMER_LOG_FROM", "")
    return int(text) if text.isdecimal() else 0


def _ended_without_a_word(failure: Failure, decision: NextStep, exit_code: int | None) -> Outcome:
    """What a run would have written that had no time to."""
    stopped = decision.action == "requeue" or failure.kind == "cancelled"
    status = "stopped" if stopped else "failed"
    return Outcome(status, failure.message, error_type=failure.kind, exit_code=exit_code)
