"""How often a watcher looks: less and less often, so that nobody is asked every few seconds for days."""

from __future__ import annotations

import time

FIRST_S = 2.0
SLURM_S, FILES_S = 60.0, 10.0  # the longest pause where SLURM is asked, and where only files are read


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
        """Whether it is time to look; then the next pause begins."""
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + self.pause_s
        return True
