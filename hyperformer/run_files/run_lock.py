"""One trainer per run folder, whatever started it, on every machine that shares the folder. Imports no torch.

``.trainer.lock`` in the run's folder says who trains. Three rules:

1. The trainer holds the kernel's lock on that file. The kernel releases it however the process
   ends, kill -9 included. Network file systems with a lock service pass it on to other machines.
2. The trainer touches the file every :data:`HEARTBEAT_SECONDS`. So a trainer on another machine is
   seen also where locks are not passed on: it is gone when the file was left alone for :data:`LEASE_SECONDS`.
3. A trainer that was cut off for longer than that, and whose run was taken over, ends its own
   process (:data:`~hyperformer.errors.TAKEN_OVER_EXIT`) at its next heartbeat. Where locks are not
   passed on, two that start at once both find the run free; the later record remains, and the
   other trainer sees it within seconds, before its first step.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import hashlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hyperformer.errors import TAKEN_OVER_EXIT, RunInUse
from hyperformer.run_files.watchdog import HEARTBEAT_SECONDS

NAME = ".trainer.lock"
LEASE_SECONDS = 6 * HEARTBEAT_SECONDS
# A trainer checks first this soon after it started, then after twice as long, up to a heartbeat.
_FIRST_LOOK_SECONDS = 0.5
# A status command asks for the lock, too, for a moment.
_TRIES, _PAUSE_SECONDS = 20, 0.05
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_MOST_BYTES = 4096
# A record has one length: of two that are written at once, one remains complete and nothing of the other.
_RECORD_BYTES = 1024


@contextmanager
def hold(folder: str | Path) -> Iterator[None]:
    """Be the run's only trainer in this block. One process per run calls this: rank 0.

    Where the last trainer was killed on another machine less than :data:`LEASE_SECONDS` ago,
    this waits until that much time has passed.

    Raises:
        RunInUse: another process trains this run.
        OSError: the file cannot be made or read.
    """
    path = Path(folder) / NAME
    lock = _open_and_lock(path)
    try:
        _wait_for_other_machine(path)
        mine = _record_text(_this_trainer())
        _write(path, mine)
        ended = threading.Event()
        heart = threading.Thread(target=_beat, args=(path, mine, ended), name="run lock", daemon=True)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            if _read(path) == mine:
                _write(path, "")
    finally:
        os.close(lock)


def holder(folder: str | Path) -> dict[str, Any] | None:
    """The living trainer of a run, or None. Waits for nothing, so it can be asked for many runs.

    Returns:
        {"host", "pid", "user", "since" (seconds since the epoch), "job_id" (of SLURM, or None), ...};
        the values are None where the file is damaged.
    """
    path = Path(folder) / NAME
    text = _read(path)
    if not text:
        return None
    record = _parse(text)
    if _is_locked(path):
        return record
    if record["boot"] == _boot():
        return None
    with suppress(OSError):
        # Clocks of two machines may differ a little; the lease is long.
        return record if time.time() - path.stat().st_mtime < LEASE_SECONDS else None
    return None


def _open_and_lock(path: Path) -> int:
    """A descriptor that holds the kernel's lock; raises RunInUse if another process has it."""
    for _ in range(_TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        locked = _lock(descriptor, path, fcntl.LOCK_EX)
        # Somebody may have removed the file meanwhile: then this is a lock on nothing.
        if locked is not None and path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            if locked != descriptor:
                os.close(descriptor)
            return locked
        for number in {descriptor, locked} - {None}:
            os.close(number)  # type: ignore[arg-type]
        time.sleep(_PAUSE_SECONDS)
    raise _in_use(path)


def _lock(descriptor: int, path: Path, kind: int) -> int | None:
    """The descriptor that now holds the lock: `descriptor`, or one of a local file in its place."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return descriptor
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        if error.errno not in _NO_LOCKS:
            error.filename = str(path)
            raise
    # This file system has no locks; within one machine a local file has.
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]
    local = os.open(
        Path(tempfile.gettempdir()) / f"hyperformer-{os.getuid()}-{name}.lock", os.O_RDWR | os.O_CREAT
    )
    try:
        fcntl.flock(local, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(local)
        return None
    return local


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        locked = _lock(descriptor, path, fcntl.LOCK_SH)
        if locked not in (None, descriptor):
            os.close(locked)
        return locked is None
    finally:
        os.close(descriptor)


def _wait_for_other_machine(path: Path) -> None:
    """See that the trainer in the record is gone, though it was on a machine whose locks may not reach here.

    The file server's clock alone is asked, by touching a file of our own.
    """
    text = _read(path)
    if not text or _parse(text)["boot"] == _boot():
        return  # released; or the kernel, whose lock we hold, knows
    first, end = path.stat().st_mtime, time.monotonic() + LEASE_SECONDS
    while time.monotonic() < end:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{NAME}.", suffix=".tmp") as now:
            age = os.fstat(now.fileno()).st_mtime - first
        if age > LEASE_SECONDS:
            return
        time.sleep(min(1.0, LEASE_SECONDS / 10))
        # Opening makes an NFS client ask the server for the time of the last change.
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mtime != first:
                raise _in_use(path)


def _beat(path: Path, mine: str, ended: threading.Event) -> None:
    pause = _FIRST_LOOK_SECONDS
    while not ended.wait(min(pause, HEARTBEAT_SECONDS)):
        pause *= 2
        with suppress(OSError):  # a file server that is away; it is asked again
            text = _read(path)
            if text == mine:
                os.utime(path)
            elif text:
                print(
                    f"{_owner(path)}. It took the run over; this process ends",
                    file=sys.__stderr__,
                    flush=True,
                )
                os._exit(TAKEN_OVER_EXIT)


def _this_trainer() -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return {
        "host": os.environ.get("HYPERFORMER_HOST") or socket.gethostname(),
        "pid": os.getpid(),
        "user": user,
        "since": time.time(),
        "job_id": os.environ.get("SLURM_JOB_ID"),
        "boot": _boot(),
        "token": uuid.uuid4().hex,
    }


def _boot() -> str:
    """Which start of which machine this is: processes with the same answer share one kernel."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _read(path: Path) -> str | None:
    """The file's text, as it stood for two reads: one alone may see half of what is being written."""
    try:
        with path.open("rb", buffering=0) as stream:
            text = None
            while (again := stream.read(_MOST_BYTES)) != text:
                text = again
                stream.seek(0)
            return again.decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(path: Path, text: str) -> None:
    # In place: the lock belongs to this very file. One write, so that the last of two is complete.
    with path.open("r+b", buffering=0) as stream:
        stream.write(text.encode())
        stream.truncate(len(text.encode()))
        os.fsync(stream.fileno())


def _record_text(record: dict[str, Any]) -> str:
    return json.dumps(record).ljust(_RECORD_BYTES)


def _parse(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    known = record if isinstance(record, dict) else {}
    return {"host": None, "pid": None, "user": None, "since": None, "job_id": None, "boot": None, **known}


def _owner(path: Path) -> str:
    record = _parse(_read(path) or "")
    job = f", job {record['job_id']}" if record["job_id"] else ""
    since = ""
    with suppress(TypeError, ValueError, OverflowError, OSError):
        since = time.strftime(" since %Y-%m-%d %H:%M:%S", time.localtime(record["since"]))
    return (
        f"{path.parent} is being trained by process {record['pid'] or '(unknown)'} on "
        f"{record['host'] or '(unknown)'}{job}{since}"
    )


def _in_use(path: Path) -> RunInUse:
    text = (
        f"{_owner(path)}. Nothing was changed. Wait until it ends, or end it, and give the same command again"
    )
    if _parse(_read(path) or "")["boot"] == _boot():
        return RunInUse(text)
    return RunInUse(f"{text}. If you know that process to be gone, remove {path}")
