"""What runs on the node: one attempt at one run. Importable, so that submitit pickles it by name."""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from hyperformer.config import replace
from hyperformer.errors import Interrupted
from hyperformer.files import write_json
from hyperformer.run_folder import RunFolder
from launchers.cluster import join_ranks
from launchers.ledger import Attempt
from launchers.processes import this_process

_TAIL_LINES = 15


def run_in_folder(folder: str, attempt_number: int, gpu: str | None = None) -> None:
    """Train the run whose config is in `folder`, and write down how it ended.

    Args:
        folder: the run's folder, absolute; holds config.json.
        attempt_number: names the folder attempts/<n>, which is there.
        gpu: the one GPU to see ('': none); None: those that the cluster gave.

    Raises:
        whatever the run raises, so that the cluster sees a failure.
    """
    # Before torch is imported, and before a Ctrl-C in the launcher's terminal can reach the run:
    # the launcher asks it to stop by SIGTERM.
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        os.setsid()
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGUSR2, _pass_on)  # SLURM ahead of the time limit: stop as on SIGTERM
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    rank, job_id = join_ranks()
    attempt = Attempt(Path(folder) / "attempts" / str(attempt_number))
    if rank == 0:
        attempt.outcome.unlink(missing_ok=True)  # of an earlier start of this very job: SLURM requeued it
        started = {"cluster": os.environ.get("SUBMITIT_EXECUTOR"), "job_id": job_id, "started": time.time()}
        write_json(attempt.started, {**this_process(), **started})
    try:
        result = _run(Path(folder))
    except (KeyboardInterrupt, Interrupted):
        result = None
    except BaseException as error:
        _failed(attempt, rank, error)
        raise
    if rank == 0:
        attempt.write_outcome("done" if result is not None else "stopped")


def _run(folder: Path) -> dict[str, Any] | None:
    """The run itself; None if it was stopped before its end."""
    from hyperformer.run import run

    run(replace(RunFolder(folder).read_config(), output_dir=str(folder)))
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


def _stop(signum: int, frame: FrameType | None) -> None:
    """Until the run sets its own handler, which saves first, there is nothing to save."""
    raise KeyboardInterrupt


def _pass_on(signum: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
