"""What runs on the node: one attempt at one run. Started by ``python -m launchers.job``."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from hyperformer.errors import Interrupted, Paused, RunInUse
from hyperformer.files import write_json
from hyperformer.run_files.checkpoint_folder import CheckpointFolder
from hyperformer.run_files.pause import read_pause
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import replace
from hyperformer.settings.schema import RunConfig
from hyperformer.terminal import prepare_streams
from launchers.job.pack import Pack
from launchers.job.start_checks import (
    close_unfinished_attempts,
    not_started,
    wait_for_trainer,
    why_not_to_start,
)
from launchers.slurm.submitit_executor import RankContext, join_ranks
from launchers.slurm.this_job import JobTask, own_id, this_task
from launchers.store import code_snapshot, submissions
from launchers.store.attempts import Attempt, Outcome, last_attempt, next_attempt, this_start
from launchers.store.processes import this_process
from launchers.store.submissions import QueuedRun

_TAIL_LINES = 30


def run_submitted(record: str) -> None:
    """Run what the record of a submission names for this task of the job array.

    Raises:
        whatever the run raises, so that the cluster sees a failure.
    """
    stop_on_signals()
    task = this_task(Path(record))
    if task.is_packed:
        Pack(task).run_all()
    else:
        _run_queued(task, task.runs[0], join_ranks())


def run_packed(record: str, index: int, slot: int) -> None:
    """One of the runs that share a job: started by :mod:`launchers.job.pack` in a process of its own."""
    stop_on_signals()
    task = JobTask(Path(record), submissions.read(Path(record)), index)
    _run_queued(task, task.runs[slot], RankContext(0, own_id()))


def run_local(attempt_folder: str) -> None:
    """Train a run on this machine.

    Args:
        attempt_folder: attempts/<n> in the run's folder, absolute; both are there, and config.json of the run.

    Raises:
        whatever the run raises, so that the launcher sees a failure.
    """
    stop_on_signals()
    attempt = Attempt(Path(attempt_folder))
    config = replace(RunFolder(attempt.run_folder).read_config(), output_dir=str(attempt.run_folder))
    _attempt(config, attempt, RankContext(0, str(os.getpid()), cluster="local"))


def _run_queued(task: JobTask, run: QueuedRun, context: RankContext) -> None:
    """Make the run's folder if this is its first attempt, and train."""
    folder = task.sweep.run(run.folder)
    config = run.config(folder)
    if context.rank != 0:
        _attempt(config, None, context)
        return
    unwanted = (
        why_not_to_start(folder)
        or wait_for_trainer(folder)
        or close_unfinished_attempts(folder, run.attempt, task.policy)
    )
    attempt = next_attempt(folder, run.attempt)
    if unwanted:
        attempt.write_outcome(unwanted)
        print(unwanted.message, flush=True)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            sys.exit(1)  # the other ranks wait for this one: srun ends them
        return
    attempt.folder.mkdir(parents=True, exist_ok=True)
    RunFolder(folder).claim(config)
    if context.shares_logs:
        _write_logs_to(attempt)
    _attempt(config, attempt, context)


def _write_logs_to(attempt: Attempt) -> None:
    """From now on this process writes into the attempt's own logs; those of the job are shared by its attempts."""
    for stream, path in zip((sys.stdout, sys.stderr), attempt.logs, strict=True):
        print(f"attempt {attempt.number} writes to {path}", file=stream, flush=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


def _attempt(config: RunConfig, attempt: Attempt | None, context: RankContext) -> None:
    """One attempt at a run; rank 0 writes its start and its end."""
    prepare_streams()  # a character that a node does not have must not end a training
    folder = Path(config.output_dir)
    if attempt is not None:
        _write_started(attempt, folder, context)
    try:
        result = _train(config, folder)
        outcome = Outcome("done" if result is not None else "stopped")
    except (KeyboardInterrupt, Interrupted) as stopped:
        outcome = Outcome("stopped", str(stopped), signal=int(getattr(stopped, "signal", signal.SIGTERM)))
    except Paused as paused:
        outcome = Outcome("paused", str(paused))
    except RunInUse as refused:
        if attempt is not None:
            attempt.write_outcome(not_started(str(refused), "in_use"))
        raise
    except BaseException as error:
        _ignore_stop_signals()
        _write_failure(attempt or last_attempt(folder), context, error)
        raise
    _ignore_stop_signals()
    if attempt is not None:
        attempt.write_outcome(outcome)


def _write_started(attempt: Attempt, folder: Path, context: RankContext) -> None:
    job_id, restarts = this_start(context.job_id)
    newest = CheckpointFolder(RunFolder(folder).checkpoints).newest() or "step-0"
    started = {
        "cluster": context.cluster,
        "job_id": job_id,
        "restarts": restarts,
        "started": time.time(),
        "from_step": int(newest.removeprefix("step-").partition(".")[0]),
    }
    write_json(attempt.started_file, {**this_process(), **started})


def _train(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """The run itself; None if it was stopped before its end."""
    from hyperformer.run import run

    deadline = os.environ.get("HYPERFORMER_DEADLINE")
    files = RunFolder(folder)
    run(config, deadline=float(deadline) if deadline else None, pause_at=read_pause(files))
    return files.read_result()


def _write_failure(attempt: Attempt | None, context: RankContext, error: BaseException) -> None:
    """The first rank to fail tells the cause; the others fail because of it."""
    if attempt is None or attempt.outcome_file.exists():
        return
    if attempt.start != this_start(context.job_id):  # rank 0 has not begun this one yet: its log must tell
        return
    behind = error_chain(error)
    numbers = (each.errno for each in (error, *behind) if isinstance(each, OSError))
    outcome = Outcome(
        "failed",
        message=str(error) + code_snapshot.explain_missing([error, *behind]),
        error_type=type(error).__name__,
        causes=tuple(type(each).__name__ for each in behind),
        errno=next(numbers, None),
        rank=context.rank,
        host=socket.gethostname(),
        traceback_tail=tuple(traceback.format_exc().splitlines()[-_TAIL_LINES:]),
    )
    with suppress(OSError):  # a full disk: the error itself must not be lost for that
        attempt.write_outcome(outcome)


def error_chain(error: BaseException) -> list[BaseException]:
    """The errors behind an error, nearest first."""
    found: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


class _Stopped(KeyboardInterrupt):
    """A signal before the run sets its own handlers. Code that catches errors does not catch it."""

    def __init__(self, number: int) -> None:
        super().__init__("stopped before it began to train")
        self.signal = number


def stop_on_signals() -> None:
    """Stop at once: until the run sets its own handlers, which save first, there is nothing to save."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, _stop)


def _ignore_stop_signals() -> None:
    """While the end is written, a second signal must not prevent that."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise _Stopped(signum)
