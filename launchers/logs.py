"""Show the logs of runs, and follow them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launchers.ledger import last_attempt

_TICK_S = 0.5
_CHUNK = 1 << 16


@dataclass
class _Log:
    title: str
    path: Path
    at: int = 0  # bytes shown so far

    def news(self) -> bytes:
        """What was written since the last call; at most one chunk."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.at)
                data = stream.read(_CHUNK)
        except FileNotFoundError:
            return b""
        self.at += len(data)
        return data


def show(folders: Sequence[tuple[str, Path]], follow: bool, going: Callable[[], bool]) -> bool:
    """Write the logs of the runs' newest attempts to standard output.

    Args:
        folders: (run name, run folder).
        follow: go on until `going` says that no run is going any more.

    Returns:
        Whether there was any log.
    """
    logs = []
    for name, folder in folders:
        attempt = last_attempt(folder)
        if attempt is not None:
            logs += [_Log(f"{name} (attempt {attempt.number}) {path.name}", path) for path in attempt.logs]
    shown: _Log | None = None
    while True:
        more = follow and going()  # asked before reading: what is written after it is read in the next round
        news = True
        while news:
            news = False
            for log in logs:
                data = log.news()
                if data:
                    news = True
                    if shown is not log:
                        print(f"==> {log.title} <==")
                        shown = log
                    sys.stdout.write(data.decode(errors="replace"))
                    sys.stdout.flush()
        if not more:
            return any(log.at for log in logs)
        time.sleep(_TICK_S)
