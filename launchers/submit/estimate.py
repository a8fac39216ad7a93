"""What a submit will cost, before it is made."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass

from launchers.slurm.arrays import Handing
from launchers.slurm.submitit_executor import ClusterError, outside_of_any_job, slurm_words

# True while nodes are down or busy, too, and then a job may wait: sbatch itself decides.
_PASSING = ("node configuration is not available", "nodes are busy", "Resources temporarily unavailable")


@dataclass(frozen=True)
class Bill:
    """What the jobs take at most; `start` is when the first may start, in SLURM's words."""

    runs: int
    jobs: int
    arrays: int
    gpu_hours: float
    cpu_hours: float
    start: str | None = None

    def __str__(self) -> str:
        jobs = f"{self.jobs} job{'s' if self.jobs != 1 else ''}"
        cost = f"{self.gpu_hours:,.4g} GPU-hours" if self.gpu_hours else f"{self.cpu_hours:,.4g} core-hours"
        start = f"; SLURM expects to start the first {self.start}" if self.start else ""
        return f"bill: {self.runs} run{'s' if self.runs != 1 else ''} in {jobs}, {cost} at most{start}"


def bill(handing: Handing, start: str | None = None) -> Bill:
    arrays = handing.arrays
    return Bill(
        runs=sum(len(array.runs) for array in arrays),
        jobs=sum(len(array.tasks) for array in arrays),
        arrays=len(arrays),
        gpu_hours=sum(len(array.tasks) * array.resources.gpu_hours for array in arrays),
        cpu_hours=sum(len(array.tasks) * array.resources.cpu_hours for array in arrays),
        start=start,
    )


def try_sbatch(text: str) -> tuple[str | None, str | None]:
    """Ask SLURM about an sbatch file without submitting it.

    Returns:
        (when it would start, what SLURM has against it).
    """
    try:
        with outside_of_any_job():
            done = subprocess.run(
                ["sbatch", "--test-only"], input=text, capture_output=True, text=True, timeout=60, check=False
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"SLURM does not answer: {error}") from error
    if any(words in done.stderr for words in _PASSING):
        return None, None
    if done.returncode:
        return None, slurm_words(done.stderr.strip())
    match = re.search(r"to start at (\S+)", done.stderr)
    return (_soon(match[1]) if match else None), None


def _soon(text: str) -> str:
    try:
        seconds = time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) - time.time()
    except ValueError:
        return f"at {text}"
    return "now" if seconds < 60 else f"at {text.replace('T', ' ')}"
