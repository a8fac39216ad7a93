"""Live progress: a table that renews itself on a terminal, else a line for each change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from hyperformer.errors import clip
from launchers.cli.display.tables import duration, status_table, summary
from launchers.status.polling import SLURM_S, PollInterval
from launchers.status.run_status import RunStatus

# What is shown first where not all runs fit the terminal.
_ORDER = {
    "running": 0, "failed": 1, "lost": 1, "damaged": 1, "stopped": 2, "pending": 3, "waiting": 3, "missing": 4,
}  # fmt: skip


class Progress:
    """Shows the state of runs; :meth:`update` it with each new one."""

    def __init__(self, out: Console, title: str) -> None:
        self.out = out
        self.title = title
        self.began = time.monotonic()
        self._live = Live(console=out, auto_refresh=False) if out.is_terminal else None
        self._poll_interval = PollInterval(SLURM_S)
        self._shown: dict[str, str] = {}
        self._message = ""

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, statuses: Sequence[RunStatus], message: str = "") -> None:
        if self._live:
            self._live.update(self._picture(statuses, message), refresh=True)
        else:
            self._lines(statuses, message)

    def _picture(self, statuses: Sequence[RunStatus], message: str) -> RenderableType:
        """What fits the terminal: first what runs, then what failed, then the rest."""
        room = max(4, self.out.height - 7)
        if len(statuses) > room:
            statuses_shown = sorted(statuses, key=lambda status: _ORDER.get(status.state, 5))[:room]
        else:
            statuses_shown = list(statuses)
        head = Text(f"{self.title}  {duration(time.monotonic() - self.began)}  ", style="bold")
        head.append_text(summary(statuses))
        lines: list[RenderableType] = [head, status_table(statuses_shown, self.out.width)]
        if len(statuses_shown) < len(statuses):
            lines.append(Text(f"... and {len(statuses) - len(statuses_shown)} more", style="dim"))
        return Group(*lines, Text(message, style="yellow"))

    def _lines(self, statuses: Sequence[RunStatus], message: str) -> None:
        is_due = self._poll_interval.is_due()
        for status in statuses:
            before = self._shown.get(status.signature)
            is_running = status.state == "running"
            is_news = is_running if before is None else status.state != before
            if is_news or (is_running and is_due):
                self.out.print(self._line(status), soft_wrap=True)
            self._shown[status.signature] = status.state
        if message and message != self._message:
            self.out.print(message)
            self._message = message

    def _line(self, status: RunStatus) -> str:
        parts = [f"[{duration(time.monotonic() - self.began)}] {status.name}: {status.state}"]
        if status.state == "running" and status.step is not None:
            parts.append(f"step {status.step}/{status.max_steps}")
            if status.loss is not None:
                parts.append(f"loss {status.loss:.3f}")
            if status.seconds_left is not None:
                parts.append(f"{duration(status.seconds_left)} left")
        if status.detail:
            parts.append(clip(status.detail, 300))
        return ", ".join(parts)
