"""Which process on which machine: recorded in files, and recognised later."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """{"host", "pid", "born"} of the calling process."""
    return describe(os.getpid())


def describe(pid: int) -> dict[str, Any]:
    """{"host", "pid", "born"} of a process of this machine."""
    return {"host": _host(), "pid": pid, "born": _born(pid)}


def is_alive(record: Mapping[str, Any]) -> bool | None:
    """Whether the process that :func:`describe` recorded still runs; None if it is on another machine."""
    if record.get("host") != _host():
        return None
    pid = record.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    born = _born(pid)
    # Process ids are used again; the start time tells two processes of one id apart.
    return born is not None and born == record.get("born", born)


def with_argument(folder: Path) -> dict[str, Any] | None:
    """A local run's process that was started to work in `folder`; None if there is none, or no /proc.

    For the case that a launcher was killed after it started a run and before it recorded the process.
    """
    wanted = os.fsencode(folder)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in words:
            return {"cluster": "local", "job_id": entry.parent.name, **describe(int(entry.parent.name))}
    return None


def seconds_silent(heartbeat: Path) -> float | None:
    """Seconds since a heartbeat, by the clock of its file system; None if there never was one."""
    try:
        last = heartbeat.stat().st_mtime
        if time.time() - last < _RECENT_S:
            return 0.0
        # The clocks of nodes and login node may differ: ask the file system what time it has.
        with tempfile.NamedTemporaryFile(dir=heartbeat.parent, prefix=".now.") as probe:
            now = os.stat(probe.name).st_mtime
    except FileNotFoundError:
        return None
    except OSError:
        now = time.time()
    return max(0.0, now - last)


_RECENT_S = 150.0


def _host() -> str:
    """This machine's name. A new container may have the name of an old one: see launchers/cli/container.py."""
    return os.environ.get("HYPERFORMER_HOST") or socket.gethostname()


def _born(pid: int) -> str | None:
    """When a process started, in the kernel's clock ticks; None if there is none (a zombie counts as none)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    except OSError:
        return None
    else:
        state, *fields = text.rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    try:  # no /proc here, as on macOS
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"
