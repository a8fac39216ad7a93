"""The page of the report while runs of this machine end: drawn by a process of its own, so that none waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from launchers.store import code_snapshot

_INTERVAL_S = 60.0


class PageRenewal:
    """Draws the page a minute after the last drawing, if a run has ended since; the first one counts from now.

    The process that started the queue draws when its last run has ended.

    Args:
        folder: of the sweep.
        is_on: false: nothing is drawn.
    """

    def __init__(self, folder: Path, is_on: bool) -> None:
        self._folder, self._is_on = folder, is_on
        self._lacks_a_run = False
        self._due = time.monotonic() + _INTERVAL_S
        self._process: subprocess.Popen[bytes] | None = None

    def has_ended(self) -> None:
        """A run has ended, so the page is not up to date."""
        self._lacks_a_run = self._is_on

    def draw_if_due(self) -> None:
        """Start the drawing if it is time for one."""
        if self._lacks_a_run and time.monotonic() >= self._due and not self._is_drawing():
            self.draw()

    def draw(self) -> None:
        """Start the drawing, and do not wait for it."""
        if not self._is_on:
            return
        self._lacks_a_run, self._due = False, time.monotonic() + _INTERVAL_S
        command = [sys.executable, "-m", "launchers.renew", str(self._folder)]
        variables = {"PYTHONPATH": code_snapshot.python_path(), "PYTHONSAFEPATH": "1"}
        quiet = subprocess.DEVNULL  # what it says would disturb the progress
        with suppress(OSError):  # no more processes: a page that is out of date is no reason to end the queue
            self._process = subprocess.Popen(
                command, env={**os.environ, **variables}, stdin=quiet, stdout=quiet, stderr=quiet,
                start_new_session=True,  # a Ctrl-C is for the queue
            )  # fmt: skip

    def stop(self) -> None:
        """End a drawing that is under way; the page stays as it was."""
        if self._process is not None and self._is_drawing():
            self._process.kill()
            self._process.wait()

    def _is_drawing(self) -> bool:
        return self._process is not None and self._process.poll() is None
