"""The runs that a launcher on some machine is to start: ``queue.json``, for as long as it lives.

So other processes can tell a run that waits from one that nothing is going to start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from hyperformer.files import write_json
from launchers.store.processes import is_alive, seconds_silent, this_process
from launchers.store.records import try_record
from launchers.store.sweep_folder import SweepFolder

_BEAT_S = 15.0
# On another machine the file's age is all that tells whether the launcher lives.
_SILENT_S = 300.0


class QueueFile:
    """``queue.json`` of this process."""

    def __init__(self, paths: SweepFolder) -> None:
        self.path = paths.queue
        self._beaten = time.monotonic()

    @contextmanager
    def show(self, numbers: Mapping[str, int]) -> Iterator[None]:
        """In this block these runs wait, each until its attempt begins.

        Args:
            numbers: signature of a run -> number of its next attempt.
        """
        self.write(numbers)
        try:
            yield
        finally:
            self.remove()

    def write(self, numbers: Mapping[str, int]) -> None:
        """From now on these wait."""
        write_json(self.path, {**this_process(), "runs": dict(numbers)})

    def beat(self) -> None:
        """Show that this process lives; to be called every few seconds."""
        if time.monotonic() - self._beaten > _BEAT_S:
            self._beaten = time.monotonic()
            with suppress(OSError):  # removed, or the disk is full: neither ends the queue
                os.utime(self.path)

    def remove(self) -> None:
        """Nothing waits any more."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def queue_owner(paths: SweepFolder) -> str:
    """The launcher that the waiting runs are in the queue of, in words."""
    record = try_record(paths.queue) or {}
    return f"process {record.get('pid', '?')} on {record.get('host', 'some machine')}"


def waiting_runs(paths: SweepFolder) -> dict[str, int]:
    """Signature -> number of the next attempt, of the runs in the queue of a launcher that lives."""
    record = _living_queue(paths)
    return record["runs"] if record else {}


def has_launcher(paths: SweepFolder) -> bool:
    """Whether a launcher that starts runs of the sweep is alive, on this machine or another, as far as is known."""
    return _living_queue(paths) is not None


def _living_queue(paths: SweepFolder) -> dict[str, Any] | None:
    record = try_record(paths.queue)
    if not record:
        return None
    alive = is_alive(record)
    if alive is None:
        silent = seconds_silent(paths.queue)
        alive = silent is not None and silent < _SILENT_S
    return record if alive else None
