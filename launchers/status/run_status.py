"""What can be said of one run: its state, and the words for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from launchers.slurm import states

State = Literal[
    "missing", "pending", "running", "done", "failed", "stopped", "cancelled", "lost", "damaged", "unknown"
]
STATES: tuple[State, ...] = (
    "done", "running", "pending", "missing", "stopped", "cancelled", "failed", "lost", "damaged", "unknown",
)  # fmt: skip
# Nobody has to start these: they are done, or going, or nobody can tell.
LEFT_ALONE = frozenset({"done", "running", "pending", "unknown"})
GOING = frozenset({"running", "pending", "unknown"})
BAD = frozenset({"failed", "lost", "damaged"})


@dataclass(frozen=True)
class RunStatus:
    """One run's standing.

    Attributes:
        detail: why, in a line: the error, SLURM's word for the end, the reason for waiting.
        best_metric: best average on validation so far, percent.
        seconds_left: the run's own estimate.
        elapsed: seconds since this attempt started, or that it took.
        slurm_state: SLURM's word for the job, `reason` why it waits, `expected_start` when it might start.
        has_ended: whether the end of the newest attempt is written down.
        kind: of the failure (:mod:`launchers.job.classify`), and in `note` what followed from it.
        settled: whether it was decided what follows; `goes_on`: that is a new start.
        damaged: the run's files that say nothing any more, and why.
        unreadable: what keeps its files from being read, such as a newer schema.
    """

    name: str
    signature: str
    folder: str
    state: State
    detail: str = ""
    attempt: int | None = None
    cluster: str | None = None
    job_id: str | None = None
    host: str | None = None
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    best_metric: float | None = None
    seconds_left: float | None = None
    elapsed: float | None = None
    slurm_state: str | None = None
    reason: str | None = None
    expected_start: str | None = None
    variant: str | None = None
    has_ended: bool = False
    kind: str | None = None
    note: str = ""
    settled: bool = False
    goes_on: bool = False
    damaged: tuple[tuple[str, str], ...] = ()
    unreadable: str = ""

    @property
    def holds_a_job(self) -> bool:
        """Whether it is lost, but SLURM still runs its job: that must be cancelled before another starts."""
        return self.state == "lost" and self.slurm_state in states.RUNNING

    @property
    def is_going(self) -> bool:
        """Whether waiting for its end makes sense."""
        return self.state in GOING and not self.unreadable

    @property
    def word(self) -> str:
        """The state for people: SLURM's word for a run of SLURM, ours for others."""
        if self.cluster != "slurm":
            return self.state
        if self.state == "done":
            return "COMPLETED"
        if self.state in ("pending", "running", "failed") and self.slurm_state:
            ended = self.slurm_state in ("COMPLETED", "COMPLETING", "RUNNING") and self.state == "failed"
            return "FAILED" if ended else self.slurm_state
        return self.state.upper() if self.state in ("failed", "cancelled") else self.state

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def counts(statuses: Iterable[RunStatus]) -> dict[str, int]:
    """Number of runs in each state that occurs, in the order of STATES."""
    found = Counter(status.state for status in statuses)
    return {state: found[state] for state in STATES if found[state]}
