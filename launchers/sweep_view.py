"""The state of some runs of a sweep, read once: what `status`, the report and notebooks show."""

from __future__ import annotations

from dataclasses import dataclass

from launchers.plan.plan import Run
from launchers.report import page_redraw
from launchers.status.read_status import read_statuses
from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger
from launchers.submit.race.notes import with_race


@dataclass(frozen=True)
class View:
    """Some runs of a sweep, a status for each, and notes for the user.

    Attributes:
        page_request: the last request of the report's page, read before the runs (:mod:`launchers.report.page_redraw`).
        race_continues: whether a race is to start more of these runs by itself, though none of them may be active.
    """

    runs: list[Run]
    statuses: list[RunStatus]
    notes: list[str]
    page_request: str = ""
    race_continues: bool = False

    @property
    def is_active(self) -> bool:
        """Whether waiting for an end makes sense."""
        return self.race_continues or any(entry.is_active for entry in self.statuses)

    @property
    def has_begun(self) -> bool:
        """Whether any of the runs was started."""
        return any(entry.state != "missing" for entry in self.statuses)


def read_view(ledger: Ledger, runs: list[Run], max_age_s: float = 0.0) -> View:
    """Read the state of runs, from their files and from SLURM, with what their race says of them.

    Args:
        max_age_s: how old an answer of SLURM may be that another process has read for this sweep.
    """
    page_request = page_redraw.last_request(ledger.paths)
    statuses, notes = read_statuses(ledger, runs, max_age_s)
    race = with_race(ledger, statuses)
    return View(runs, race.statuses, [*notes, *race.notes], page_request, race.continues)
