"""The state of a run, the words for it, and what `status` shows of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from launchers.slurm import states

State = Literal[
    "missing", "waiting", "pending", "running", "done", "failed", "stopped", "paused", "cancelled", "lost",
    "damaged", "unknown",
]  # fmt: skip
STATES: tuple[State, ...] = (
    "done", "running", "pending", "waiting", "missing", "paused", "stopped", "cancelled", "failed", "lost",
    "damaged", "unknown",
)  # fmt: skip
# Nobody has to start these: they are done, or under way, or their state is not known.
ACTIVE = frozenset({"running", "pending", "waiting", "unknown"})
ACTIVE_OR_DONE = ACTIVE | {"done"}
BAD = frozenset({"failed", "lost", "damaged"})


@dataclass(frozen=True)
class RunStatus:
    """The state of a run. `status --json` prints it as it is.

    Attributes:
        state: ``waiting``: in a queue on a machine; ``pending``: in SLURM's queue; ``paused``: by a race.
        detail: why, in a line: the error, SLURM's word for the end, the reason for waiting.
        job_id: of SLURM; on one machine the process that trains.
        slurm_cluster: where that job is, if not on the cluster of this machine.
        best_metric: best average on validation so far, percent.
        seconds_left: the run's own estimate.
        elapsed: seconds since this attempt started, or that it took.
        slurm_state: SLURM's word for the job; `reason`: why it waits; `expected_start`: when it might start.
        has_ended: whether the end of the newest attempt is written down.
        kind: of the failure (:mod:`launchers.plan.failure_kinds`); `note`: what followed from it.
        settled: whether it was decided what follows; `goes_on`: that is a new start.
        damaged: the run's files that cannot be understood, and why.
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
    slurm_cluster: str | None = None

    @property
    def holds_a_job(self) -> bool:
        """Whether it is lost, but SLURM still runs its job: that must be cancelled before another starts."""
        return self.state == "lost" and self.slurm_state in states.RUNNING

    @property
    def is_active(self) -> bool:
        """Whether waiting for its end makes sense."""
        return self.state in ACTIVE and not self.unreadable

    @property
    def display_state(self) -> str:
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
