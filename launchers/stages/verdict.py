"""Whether a stage may start, from the states of the runs before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hyperformer.errors import clip
from launchers.status.run_status import RunStatus

_SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """Whether a stage may start.

    Attributes:
        kind: ready; waits: runs before it have yet to end; blocked: one did not end well.
        why: of the last two, in words.
        jobs: SLURM's jobs to wait for, as squeue takes them; an array is one.
    """

    kind: Literal["ready", "waits", "blocked"]
    why: str = ""
    jobs: tuple[str, ...] = ()


READY = Verdict("ready")


def judge(name: str, statuses: Sequence[RunStatus], may_diverge: bool = False) -> Verdict:
    """What the runs of the stage, or sweep, `name` mean for what comes after it.

    Args:
        may_diverge: whether a run whose loss was not a number counts as ended well: a choice leaves its setting out.
    """
    going = [entry for entry in statuses if entry.is_active]
    if going:
        jobs = (entry.job_id for entry in going if entry.cluster == "slurm" and entry.job_id)
        arrays = dict.fromkeys(job_id.partition("_")[0] for job_id in jobs)
        return Verdict("waits", f"{_count(going)} of {name} {_have(going)} not ended", tuple(arrays))
    bad = [
        entry for entry in statuses
        if entry.state != "done" and not (may_diverge and entry.kind == "diverged" and entry.state == "failed")
    ]  # fmt: skip
    if not bad:
        return READY
    text = "; ".join(_describe(entry) for entry in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return Verdict("blocked", f"{_count(bad)} of {name} {_have(bad)} no result: {text}{more}")


def _describe(entry: RunStatus) -> str:
    detail = f": {clip(entry.detail, 120)}" if entry.detail else ""
    return f"{entry.name} ({entry.state}{detail})"


def _count(entries: Sequence[RunStatus]) -> str:
    return f"{len(entries)} run{'s' if len(entries) > 1 else ''}"


def _have(entries: Sequence[RunStatus]) -> str:
    return "have" if len(entries) > 1 else "has"
