"""What SLURM last said of a sweep's jobs, for the time when it does not answer."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyperformer.files import atomic_write
from launchers.slurm.job_queue import SlurmJob
from launchers.store.sweep_folder import SweepFolder


class LastKnown:
    """``last_known.json`` in the sweep's folder. A memory, no record: without it nothing is lost."""

    def __init__(self, folder: Path) -> None:
        self.path = SweepFolder(folder).last_known
        self._at: float | None = None

    def keep(self, jobs: Mapping[str, SlurmJob]) -> None:
        if not jobs:
            return
        record = {"at": time.time(), "jobs": {key: vars(job) for key, job in jobs.items()}}
        with suppress(OSError), atomic_write(self.path) as stream:  # the folder may be another's
            stream.write(json.dumps(record))

    def recall(self) -> dict[str, SlurmJob] | None:
        """The jobs as SLURM last told them, or None if it never did."""
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            jobs = {key: _job(values) for key, values in record["jobs"].items()}
            self._at = float(record["at"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
        return jobs

    def age(self) -> str:
        """', 3 minutes old', for a note."""
        if self._at is None:
            return ""
        minutes = max(0, round((time.time() - self._at) / 60))  # clocks differ
        return (
            f", {minutes} minute{'s' if minutes != 1 else ''} old" if minutes else ", less than a minute old"
        )


def _job(values: dict[str, Any]) -> SlurmJob:
    """A job as it was kept, by an earlier or later version perhaps; raises ValueError if it is none."""
    defaults = vars(SlurmJob(""))
    known = {name: values[name] for name in defaults.keys() & values.keys()}
    for name, value in known.items():
        is_text = isinstance(defaults[name], str)
        if not isinstance(value, str) if is_text else not 0 <= float(value or 0) < 1e12:
            raise ValueError(f"{name} is {value!r}")
    return SlurmJob(**known)
