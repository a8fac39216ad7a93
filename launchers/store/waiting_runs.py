"""The runs that a launcher on some machine is to start: ``queue.json``, for as long as it lives.

So everybody else can tell a run that waits from one that nobody is going to start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hyperformer.files import write_json
from launchers.store.processes import is_alive, seconds_silent, this_process
from launchers.store.records import try_record
from launchers.store.sweep_folder import SweepFolder

_BEAT_S = 15.0
# On another machine the file's age is all that tells whether the launcher lives.
_SILENT_S = 300.0


@dataclass
class QueueFile:
    """``queue.json`` of this process."""

    path: Path
    beaten: float = 0.0

    def beat(self) -> None:
        """Show that this process lives; to be called every few seconds."""
        if time.monotonic() - self.beaten > _BEAT_S:
            self.beaten = time.monotonic()
            with suppress(OSError):  # a full disk must not end the queue
                self.path.touch()


@contextmanager
def queue_file(paths: SweepFolder, numbers: Mapping[str, int]) -> Iterator[QueueFile]:
    """In this block these runs wait, until their attempt begins.

    Args:
        numbers: signature of a run -> number of its next attempt.
    """
    write_json(paths.queue, {**this_process(), "runs": dict(numbers)})
    try:
        yield QueueFile(paths.queue)
    finally:
        with suppress(OSError):
            paths.queue.unlink(missing_ok=True)


def waiting_runs(paths: SweepFolder) -> dict[str, int]:
    """Signature -> number of the next attempt, of the runs in the queue of a launcher that lives."""
    record = try_record(paths.queue)
    if not record:
        return {}
    alive = is_alive(record)
    if alive is None:
        silent = seconds_silent(paths.queue)
        alive = silent is not None and silent < _SILENT_S
    return record["runs"] if alive else {}
