"""One submitter of a sweep at a time, on any machine that shares the folder."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hyperformer.errors import HyperformerError
from launchers.store.processes import is_alive, this_process
from launchers.store.sweep_folder import SweepFolder

_TICK_S = 0.2


class LockError(HyperformerError):
    """Someone else is submitting this sweep."""


@contextmanager
def sweep_lock(folder: Path, wait_s: float = 0.0, brief: bool = False) -> Iterator[None]:
    """Hold the sweep's lock: a file that only one can create.

    A lock whose process is gone (same machine) is taken over. One from another
    machine cannot be judged, so the error names the file to remove.

    Args:
        wait_s: how long to wait for another who says that it will be brief.
        brief: whether this holder will: it hands jobs to SLURM and goes.

    Raises:
        LockError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = SweepFolder(folder).lock
    mine = json.dumps({**this_process(), "user": _user(), "since": time.time(), "brief": brief})
    end = time.monotonic() + wait_s
    while not _create(path, mine):
        try:
            _remove_stale(path)
        except LockError:
            record = _parse(_read(path))
            if time.monotonic() > end or (record is not None and not record.get("brief")):
                raise
            time.sleep(_TICK_S)
    try:
        yield
    finally:
        if _read(path) == mine:
            path.unlink(missing_ok=True)


def holder(folder: Path) -> dict[str, Any] | None:
    """The living process of this machine that holds the sweep's lock, or None."""
    record = _parse(_read(SweepFolder(folder).lock))
    return record if record and is_alive(record) else None


def is_mine(folder: Path) -> bool:
    """Whether this process holds the sweep's lock."""
    record = holder(folder)
    return record is not None and record.get("pid") == os.getpid()


def is_free(folder: Path) -> bool:
    """Whether no process holds the sweep's lock; one that is gone does not."""
    text = _read(SweepFolder(folder).lock)
    record = _parse(text)
    return text is None or (record is not None and is_alive(record) is False)


def _create(path: Path, text: str) -> bool:
    # Written beside and linked: no process ever reads an empty lock, and link() is atomic over NFS too.
    beside = path.with_name(f".lock.{os.getpid()}.{time.time_ns()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        os.link(beside, path)
    except OSError as error:
        # Over NFS the server's answer may get lost, and the second try finds our own link there.
        # How many names the file has tells the truth.
        if not beside.exists() or beside.stat().st_nlink != 2:
            if isinstance(error, FileExistsError):
                return False
            error.filename, error.filename2 = str(path), None
            raise
    finally:
        beside.unlink(missing_ok=True)
    return True


def _remove_stale(path: Path) -> None:
    """Take away a lock whose process is gone; raises LockError if it lives or cannot be judged."""
    text = _read(path)
    if text is None:
        return
    record = _parse(text)
    if record is None or is_alive(record) is not False:
        raise _held(path)
    # Only processes of this machine come here, so a lock of this machine's kernel keeps them apart.
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _read(path) == text:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _held(path: Path) -> LockError:
    record = _parse(_read(path))
    if record is None:
        return LockError(f"another process is submitting this sweep; if none is, remove {path}")
    try:
        since = time.strftime("%H:%M:%S", time.localtime(record.get("since", 0)))
    except (TypeError, ValueError, OverflowError, OSError):
        since = "some time"
    return LockError(
        f"this sweep is being submitted by process {record.get('pid')} on {record.get('host')} "
        f"({record.get('user', 'somebody')}) since {since}; if that process is gone, remove {path}"
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _parse(text: str | None) -> dict[str, Any] | None:
    try:
        record = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
