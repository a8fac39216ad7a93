"""Which process draws the page of the report again, and when: the jobs that end, one at a time.

A job that has ended first requests the page, with a new token. The process that draws reads the token before it reads
the runs, and records it once the page is written. So the page is out of date exactly while the two tokens differ, even
if a process is killed in between. The lock only saves work: a job that finds another one drawing leaves it to that
one, which compares the tokens again after it has released the lock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hyperformer.files import write_json
from hyperformer.run_files.run_folder import RunFolder
from launchers.store.attempts import last_attempt
from launchers.store.records import try_record
from launchers.store.sweep_folder import SweepFolder

INTERVAL_S = 60.0
"""How old the page may be while runs are about to end: the next of them draws."""
_TIMES_AS_LONG = 10
"""At least this many times the duration of a drawing is between two: drawings of 10,000 runs take a minute."""
_SIGN_S = 60.0  # an active run touches its heartbeat every 15 s
_TICK_S = 0.2


def request(paths: SweepFolder) -> None:
    """Record that the page is out of date."""
    write_json(paths.report_wanted, {"token": secrets.token_hex(8)}, durable=False)


def last_request(paths: SweepFolder) -> str:
    """The token of the last request; to be read before the runs are."""
    return _text(paths.report_wanted)


def record_drawn(paths: SweepFolder, token: str, seconds: float = 0.0) -> None:
    """Record that the page shows all that was requested up to this token; `seconds`: that drawing took."""
    write_json(paths.report_drawn, {"token": token, "seconds": seconds}, durable=False)


def is_due(paths: SweepFolder) -> bool:
    """Whether to draw now: the page is out of date, and no run is about to end, which would draw it."""
    if last_request(paths) == _text(paths.report_drawn):
        return False
    try:
        page, requested = (paths.report / "index.html").stat().st_mtime, paths.report_wanted.stat().st_mtime
        tried = max(page, paths.report_drawn.stat().st_mtime)
    except OSError:  # there is none yet
        return True
    took = (try_record(paths.report_drawn) or {}).get("seconds")
    least = max(INTERVAL_S, _TIMES_AS_LONG * took if isinstance(took, int | float) else 0.0)
    # Both times are the file server's: clocks of nodes differ.
    return requested - tried >= least or not any(_ends_soon(run, requested, least) for run in _runs(paths))


def redraw(paths: SweepFolder, draw: Callable[[], str]) -> bool:
    """Draw while it is due, unless another process does; returns whether it did.

    Args:
        draw: writes the page, and returns the last request as it was before it read the runs.
    """
    has_drawn = False
    while is_due(paths):
        with lock(paths) as is_mine:
            if not is_mine:
                break
            began, token = time.monotonic(), _text(paths.report_drawn)
            try:
                token = draw()
            finally:  # one that fails after long is not tried again soon
                record_drawn(paths, token, time.monotonic() - began)
            has_drawn = True
    return has_drawn


@contextmanager
def lock(paths: SweepFolder, wait_s: float = 0.0) -> Iterator[bool]:
    """Whether this process is the one that draws; the kernel frees the lock of one that was killed.

    Args:
        wait_s: how long to wait for another one.
    """
    descriptor = os.open(paths.report_lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield _take(descriptor, time.monotonic() + wait_s)
    finally:
        os.close(descriptor)


def _take(descriptor: int, end: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_TICK_S)
        except OSError:  # a file system without locks: two may draw at once, and each writes a whole page
            return True


def _runs(paths: SweepFolder) -> Iterator[Path]:
    for entry in os.scandir(paths.path):
        if "-" in entry.name and not entry.name.startswith(".") and entry.is_dir():
            yield Path(entry.path)


def _ends_soon(folder: Path, now: float, within_s: float) -> bool:
    """Whether a run is active, by its own files, and is not known to run for longer; asks nobody."""
    run = RunFolder(folder)
    signs = []
    for path in (run.heartbeat, run.state):
        try:
            signs.append(path.stat().st_mtime)
        except OSError:
            continue
    if not signs or now - max(signs) > _SIGN_S:
        return False
    attempt = last_attempt(folder)
    if attempt is None or attempt.outcome_file.exists():
        return False
    left = (try_record(run.state) or {}).get("seconds_left")
    return not isinstance(left, int | float) or left < within_s


def _text(path: Path) -> str:
    found: Any = (try_record(path) or {}).get("token")
    return found if isinstance(found, str) else ""
