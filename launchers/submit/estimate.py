"""What a submit will cost, before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launchers.slurm.array_plan import ArrayPlan


@dataclass(frozen=True)
class Estimate:
    """What the jobs take at most; `start` is when the first may start, in SLURM's words.

    Attributes:
        may_stop_early: runs with `early_stop`, which may take less.
    """

    runs: int
    jobs: int
    arrays: int
    gpu_hours: float
    cpu_hours: float
    start: str | None = None
    may_stop_early: int = 0

    def __str__(self) -> str:
        jobs = f"{self.jobs} job{'s' if self.jobs != 1 else ''}"
        cost = f"{self.gpu_hours:,.4g} GPU-hours" if self.gpu_hours else f"{self.cpu_hours:,.4g} core-hours"
        start = f"; SLURM expects to start the first {self.start}" if self.start else ""
        less = f" ({self.may_stop_early} may stop early)" if self.may_stop_early else ""
        return f"cost estimate: {self.runs} run{'s' if self.runs != 1 else ''} in {jobs}, {cost} at most{less}{start}"

    def above(self, limit: float | None) -> str | None:
        """What must be confirmed first, in words; None: nothing. `limit` is the profile's `confirm_above`."""
        if limit is None or self.gpu_hours <= limit:
            return None
        return f"{self.gpu_hours:,.4g} GPU-hours are above confirm_above ({limit:g})"


def estimate(arrays: Sequence[ArrayPlan], start: str | None = None) -> Estimate:
    """What the arrays take; `start` in SLURM's words."""
    return Estimate(
        runs=sum(len(array.runs) for array in arrays),
        jobs=sum(len(array.tasks) for array in arrays),
        arrays=len(arrays),
        gpu_hours=sum(len(array.tasks) * array.resources.gpu_hours for array in arrays),
        cpu_hours=sum(len(array.tasks) * array.resources.cpu_hours for array in arrays),
        start=start,
        may_stop_early=sum(
            run.config.training.early_stop is not None for array in arrays for run in array.runs
        ),
    )
