"""What `status` shows of a run that is done, in one file instead of five: opening files is what costs on NFS.

It is part of outcome.json of the attempt that ended the run, which is written after all other files of the run. It
counts while that attempt is the newest, and result.json is the very file that it was made of. In all other cases
(an older version's run, a killed one, one that was made longer) the run's own files are read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.run_files.run_folder import RunFolder
from launchers.store.records import SUMMARY, LedgerError, check, read_record

_JOB = ("cluster", "job_id", "slurm_cluster", "host", "started")
_PROGRESS = ("step", "max_steps", "loss", "best_metric")


@dataclass(frozen=True)
class DoneRun:
    """A run that is done.

    Attributes:
        attempt: number of the one that ended it; `ended`: when, in seconds since the epoch.
        job: as :func:`job_of` has it.
        is_recorded: whether job.json names its process; else the submission knows its job.
        progress: step, max_steps, loss and best_metric.
    """

    attempt: int
    ended: float | None
    job: dict[str, Any]
    is_recorded: bool
    progress: dict[str, Any]


def job_of(started: Mapping[str, Any], process: Mapping[str, Any]) -> dict[str, Any]:
    """Where an attempt runs, or ran: by started.json, and by job.json or the submission."""
    known = {**started, **process}
    began = started.get("started")
    job_id = known.get("job_id")
    if known.get("cluster") == "local" and "pid" in started:
        job_id = str(started["pid"])  # older sweeps recorded a process that waits for it
    return {
        "cluster": known.get("cluster"),
        "job_id": job_id,
        "slurm_cluster": known.get("slurm_cluster"),
        "host": started.get("host"),
        "started": began if isinstance(began, int | float) else None,
    }


def sum_up(run: RunFolder, started_file: Path, job_file: Path) -> dict[str, Any] | None:
    """The summary of a run that is done.

    Args:
        started_file, job_file: of the attempt that ended it.

    Returns:
        None: a file of the run is missing or damaged, so `status` is to read all of them.
    """
    try:
        stamp = _stamp(run.result)  # first: of a result that is replaced now, it is not the stamp
        result, state = read_record(run.result), read_record(run.state)
        started, process = read_record(started_file), read_record(job_file)
    except (LedgerError, OSError):
        return None
    if not (result and state and started):
        return None
    return {
        "signature": result["signature"],
        "result": stamp,
        "is_recorded": process is not None,
        "job": job_of(started, process or {}),
        "progress": {name: state.get(name) for name in _PROGRESS},
    }


def read_summary(folder: str, signature: str) -> DoneRun | None:
    """The summary of the run in this folder, if it has one that counts."""
    # Paths are texts here: thousands of Path objects cost more than the files.
    try:
        names = os.listdir(f"{folder}/attempts")
        number = max(int(name) for name in names if name.isascii() and name.isdigit())
        path = f"{folder}/attempts/{number}/outcome.json"
        outcome = read_record(path)
        if not outcome or outcome["status"] != "done" or not isinstance(outcome.get("summary"), dict):
            return None
        summary = outcome["summary"]
        check(path, summary, *SUMMARY)
        is_same = summary["signature"] == signature and summary["result"] == _stamp(f"{folder}/result.json")
    except (LedgerError, OSError, ValueError):
        return None
    if not is_same:
        return None
    job = {name: summary["job"].get(name) for name in _JOB}
    return DoneRun(number, outcome.get("ended"), job, summary["is_recorded"], summary["progress"])


def _stamp(path: str | Path) -> list[int]:
    """What another file of that name, or a change to it, would have otherwise."""
    found = os.stat(path)
    return [found.st_ino, found.st_size, found.st_mtime_ns]
