"""Several runs side by side in one job: ``pack: k``.

Each is a process of its own with its own log, result and failure; the job's
GPUs and cores are shared out among them. The job goes on until all have ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from launchers.ledger import Attempt
from launchers.submission_files import Entry, Submission

_TICK_S = 0.5


def run_side_by_side(record: Path, index: int, submission: Submission) -> None:
    """Run the task's runs, each in its process, and wait for all of them.

    A failed run fails alone: its own files tell it, and the job ends well.
    """
    sweep = record.parent.parent
    entries = submission.tasks[index]
    shares = gpu_shares(os.environ.get("CUDA_VISIBLE_DEVICES", ""), len(entries))
    threads = max(1, (submission.cpus or len(entries)) // len(entries))
    going: list[tuple[Entry, subprocess.Popen[bytes]]] = []
    for place, entry in enumerate(entries):
        command = [sys.executable, "-u", "-m", "launchers.job", str(record), str(index), str(place)]
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": shares[place],
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive",
        }
        attempt = Attempt(sweep / entry.folder / "attempts" / str(entry.attempt))
        attempt.folder.mkdir(parents=True, exist_ok=True)
        if (sweep / entry.folder / "cancelled.json").exists():
            attempt.write_outcome("stopped", message="cancelled before it started")
            continue
        with attempt.logs[0].open("ab") as out, attempt.logs[1].open("ab") as errors:
            going.append((entry, subprocess.Popen(command, env=environment, stdout=out, stderr=errors)))

    def stop_all(signum: int, frame: FrameType | None) -> None:
        for _, process in going:
            if process.poll() is None:
                process.terminate()

    signal.signal(signal.SIGTERM, stop_all)
    signal.signal(signal.SIGUSR2, stop_all)
    while going:
        time.sleep(_TICK_S)
        for entry, process in list(going):
            folder = sweep / entry.folder
            if process.poll() is not None:
                _tell(Attempt(folder / "attempts" / str(entry.attempt)), process.returncode)
                going.remove((entry, process))
            elif (folder / "cancelled.json").exists():
                process.terminate()  # `cancel` of one of several: the others go on


def gpu_shares(visible: str, count: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each of `count` runs; with fewer GPUs than runs some share one.

    >>> gpu_shares("0,1", 4)
    ['0', '1', '0', '1']
    >>> gpu_shares("", 2)
    ['', '']
    """
    gpus = [name for name in visible.split(",") if name]
    return [gpus[place % len(gpus)] if gpus else "" for place in range(count)]


def _tell(attempt: Attempt, code: int) -> None:
    """The end of a run that could not tell it itself."""
    if not attempt.outcome.exists():
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        attempt.write_outcome("failed", error_type="Died", message=f"it ended by {how}, without a word")
