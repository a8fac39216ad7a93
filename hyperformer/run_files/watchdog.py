"""A run that no longer moves ends itself; one that lives leaves a heartbeat. Imports no torch.

Everything that moves the run (a step, a batch of evaluation, a file of a
checkpoint, a split of the data) calls :func:`beat`. A thread of every rank checks
the time since: after ``hang_minutes`` it writes the stacks of all threads to stderr
and the reason to state.json, and ends the process with :data:`HANG_EXIT`. Rank 0's
thread also touches the file ``heartbeat`` every 15 seconds. If another thread holds
the interpreter's lock, so that ours cannot run, faulthandler's own timer ends the
process (exit code 1).
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hyperformer.errors import HANG_EXIT
from hyperformer.run_files.run_folder import RunFolder, RunState

HEARTBEAT_SECONDS = 15.0
# Loading, downloading and waiting for nodes may take this many times longer than a step.
PATIENT = 4.0
_STDERR = 2


class _Pulse:
    """The last beat of this process."""

    def __init__(self) -> None:
        self.time, self.patience, self.what = time.monotonic(), PATIENT, "start"


_pulse = _Pulse()


def beat(what: str, patience: float = 1.0) -> None:
    """The run has moved.

    Args:
        what: what it does next, for the message.
        patience: how many times ``hang_minutes`` that may take.
    """
    _pulse.time, _pulse.patience, _pulse.what = time.monotonic(), patience, what


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """In this block the process waits for another one, which has a watchdog of its own: that is not a hang."""
    before = _pulse.what, _pulse.patience
    beat(f"waiting for {what}", math.inf)
    try:
        yield
    finally:
        beat(*before)


@contextmanager
def watch(folder: RunFolder | None, minutes: float, *, main: bool) -> Iterator[None]:
    """Watch this block.

    Args:
        folder: of the run, for heartbeat and state; None: it is not known yet to be this process's.
        minutes: the process ends itself after so many minutes without a beat; 0: never.
        main: whether this process writes the heartbeat.
    """
    beat("start", PATIENT)
    ended = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(folder, 60 * minutes, main, ended), name="watchdog", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        faulthandler.cancel_dump_traceback_later()


def _watch(folder: RunFolder | None, seconds: float, main: bool, ended: threading.Event) -> None:
    interval = min(HEARTBEAT_SECONDS, seconds / 4) if seconds else HEARTBEAT_SECONDS
    while True:
        if main and folder is not None:
            # The disk may be full; other threads report that.
            with contextlib.suppress(OSError):
                folder.heartbeat.touch()
        limit = seconds * _pulse.patience if seconds else math.inf
        silent = time.monotonic() - _pulse.time
        if silent > limit:
            _end(folder, silent)
        faulthandler.cancel_dump_traceback_later()
        if limit < math.inf:
            faulthandler.dump_traceback_later(limit + 4 * interval, exit=True, file=_STDERR)
        if ended.wait(interval):
            return


def _end(folder: RunFolder | None, silent: float) -> None:
    message = f"Hang: nothing moved for {silent / 60:.1f} minutes ({_pulse.what}); stacks are in stderr"
    print(f"{message}. All threads:", file=sys.__stderr__, flush=True)
    faulthandler.dump_traceback(file=_STDERR, all_threads=True)
    if folder is not None:
        with contextlib.suppress(Exception):
            folder.write_state((folder.read_state() or RunState("starting")).failed(message))
    os._exit(HANG_EXIT)
