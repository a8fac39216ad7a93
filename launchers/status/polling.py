"""How often runs are checked while somebody watches them, and until when.

They are checked less and less often, so that SLURM is not asked every few seconds for days.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from launchers.status.run_status import RunStatus

FIRST_S = 2.0
SLURM_S, FILES_S = 60.0, 10.0  # the longest pause where SLURM is asked, and where only files are read
# A job that returns to the queue is in none for a moment.
_BETWEEN_JOBS_S = 60.0


class PollInterval:
    """Pauses that grow with the time that was watched, from 2 seconds on.

    A pause is a quarter of that time, so that what is seen is late by a quarter of it at most.

    Args:
        most: the longest pause, in seconds.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self._began = time.monotonic()
        self._due = self._began

    @property
    def pause_s(self) -> float:
        return min(self.most, max(FIRST_S, (time.monotonic() - self._began) / 4))

    def is_due(self) -> bool:
        """Whether it is time to check; then the next pause begins."""
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + self.pause_s
        return True


class Watch(PollInterval):
    """Checks runs until they end: for `status -w` and `logs -f`."""

    _between_since: float | None = None

    def goes_on(self, is_active: bool, statuses: Iterable[RunStatus]) -> bool:
        """Whether there is more to see.

        Args:
            is_active: whether any of the runs is going or waits, or somebody is to start more of them.
            statuses: of the runs.
        """
        if is_active or not any(status.goes_on for status in statuses):
            self._between_since = None
            return is_active
        now = time.monotonic()
        self._between_since = self._between_since or now
        return now - self._between_since < _BETWEEN_JOBS_S
