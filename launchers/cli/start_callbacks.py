"""What the terminal shows while runs start: notes, the cost estimate, the question, progress of local runs."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from launchers.api import NotConfirmed, StartPlan, Sweep
from launchers.cli.display import tables
from launchers.cli.display.layout import console
from launchers.cli.display.progress import Progress
from launchers.cli.output import ask, can_ask, print_notes
from launchers.status.run_status import ACTIVE_OR_DONE, RunStatus


class TerminalCallbacks:
    """Tells the user what a start does, asks what must be asked, and shows the progress of local runs."""

    def __init__(self, sweep: Sweep, yes: bool) -> None:
        self._sweep = sweep
        self._yes = yes
        self._progress: Progress | None = None

    def __enter__(self) -> TerminalCallbacks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._progress:
            self._progress.__exit__(None, None, None)
            self._progress = None

    def announce(self, start: StartPlan) -> None:
        print_notes(start.notes)
        number = len(start.todo) - len(start.left_out)
        total = len(start.statuses)
        print(
            f"{self._sweep.plan.name}: {number} of {total} runs to start, {_active_or_done(start.statuses)}"
        )
        if start.estimate:
            print(start.estimate, flush=True)

    def confirm(self, question: str) -> bool:
        if self._yes:
            return True
        if not can_ask():
            raise NotConfirmed(f"{question}; say -y to submit them")
        return ask(f"{question}; submit?")

    def note(self, text: str) -> None:
        print_notes([text])

    def update(self, statuses: Sequence[RunStatus], message: str = "") -> None:
        if self._progress is None:
            self._progress = Progress(console(), self._sweep.plan.name)
            self._progress.__enter__()
        self._progress.update(statuses, message)


def _active_or_done(statuses: Sequence[RunStatus]) -> str:
    found = tables.counts([entry for entry in statuses if entry.state in ACTIVE_OR_DONE])
    return ", ".join(f"{number} {state}" for state, number in found.items()) or "none done or going"
