"""What runs on the node: one attempt at one run. Importable, so that submitit pickles it by name."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from hyperformer.config import RunConfig, replace
from hyperformer.errors import Interrupted
from hyperformer.files import write_json
from hyperformer.run_folder import RunFolder
from launchers import packed, submission_files
from launchers.cluster import Place, join_ranks
from launchers.ledger import Attempt
from launchers.processes import this_process
from launchers.submission_files import Entry

_TAIL_LINES = 15


def run_submitted(record: str) -> None:
    """Run what the record of a submission names for this task of the job array.

    Raises:
        whatever the run raises, so that the cluster sees a failure.
    """
    _listen()
    own = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    submission = submission_files.read_for_job(Path(record), own)
    index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    entries = submission.tasks[index]
    if submission.shape.get("pack", 1) > 1:
        packed.run_side_by_side(Path(record), index, submission)
    else:
        _run_entry(Path(record).parent.parent, entries[0], join_ranks())


def run_packed(record: str, index: int, place: int) -> None:
    """One of the runs that share a job: started by :mod:`launchers.packed` in a process of its own."""
    _listen()
    submission = submission_files.read(Path(record))
    here = Place(0, submission.task_id(index) or "", None)
    _run_entry(Path(record).parent.parent, submission.tasks[index][place], here)


def run_in_folder(folder: str, attempt_number: int, gpu: str | None = None) -> None:
    """Train the run whose config is in `folder`, on this machine.

    Args:
        folder: the run's folder, absolute; holds config.json.
        attempt_number: names the folder attempts/<n>, which is there.
        gpu: the one GPU to see ('': none); None: those that the cluster gave.

    Raises:
        whatever the run raises, so that the launcher sees a failure.
    """
    # Before torch is imported, and before a Ctrl-C in the launcher's terminal can reach the run:
    # the launcher asks it to stop by SIGTERM.
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        os.setsid()
    _listen()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    config = replace(RunFolder(folder).read_config(), output_dir=folder)
    _attempt(config, Attempt(Path(folder) / "attempts" / str(attempt_number)), join_ranks())


def _run_entry(sweep: Path, entry: Entry, place: Place) -> None:
    """Make the run's folder if this is its first attempt, and run."""
    folder = sweep / entry.folder
    config = entry.config(folder)
    attempt = Attempt(folder / "attempts" / str(entry.attempt))
    if place.rank == 0:
        RunFolder(folder).claim(config)
    attempt.folder.mkdir(parents=True, exist_ok=True)
    if place.rank == 0 and place.logs:
        attempt.link_logs(*place.logs)
    _attempt(config, attempt, place)


def _attempt(config: RunConfig, attempt: Attempt, place: Place) -> None:
    """One attempt at a run, with its start and its end written down."""
    folder = Path(config.output_dir)
    if place.rank == 0:
        attempt.outcome.unlink(missing_ok=True)  # of an earlier start of this very job: SLURM requeued it
        started = {
            "cluster": os.environ.get("SUBMITIT_EXECUTOR"),
            "job_id": place.job_id,
            "restarts": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
            "started": time.time(),
        }
        write_json(attempt.started, {**this_process(), **started})
    try:
        result = _run(config, folder)
    except (KeyboardInterrupt, Interrupted):
        result = None
    except BaseException as error:
        _failed(attempt, place.rank, error)
        raise
    if place.rank == 0:
        attempt.write_outcome("done" if result is not None else "stopped")


def _run(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """The run itself; None if it was stopped before its end."""
    from hyperformer.run import run

    run(config)
    return RunFolder(folder).read_result()


def _failed(attempt: Attempt, rank: int, error: BaseException) -> None:
    """Write the failure down. The first rank to fail tells the cause; the others fail for want of it."""
    if not attempt.outcome.exists():
        tail = traceback.format_exc().splitlines()[-_TAIL_LINES:]
        attempt.write_outcome(
            "failed",
            error_type=type(error).__name__,
            message=str(error),
            rank=rank,
            host=socket.gethostname(),
            traceback_tail=tail,
        )


def _listen() -> None:
    """Hear the signals that ask to stop."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGUSR2, _pass_on)  # SLURM ahead of the time limit: stop as on SIGTERM


def _stop(signum: int, frame: FrameType | None) -> None:
    """Until the run sets its own handler, which saves first, there is nothing to save."""
    raise KeyboardInterrupt


def _pass_on(signum: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    run_packed(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
