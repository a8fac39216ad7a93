"""What a quota leaves of a file system: asked of ``quota``, and on Lustre of ``lfs``. Silent where neither knows.

The quota of a project or a folder (XFS, ext4, CephFS) need not be asked for:
there the file system itself gives what is left of it as its free space.
"""

from __future__ import annotations

import math
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# A file server that is gone lets quota wait for ever.
_TIMEOUT_S = 10
# 'kbytes quota limit grace', and the same of files; before it stands the file system's name, or the line above
# has it. A star marks what is above its limit, brackets what Lustre is not sure of.
_FIGURES = re.compile(
    r"(?:^|\s)" + r"\s+".join([r"\[?(\d+)\]?\*?\s+(\d+)k?\s+(\d+)k?\s+([\w-]+)"] * 2) + r"\s*$", re.M
)
_OWNER = re.compile(r"^Disk quotas for (user|group) .*\([ug]id (\d+)\):.*$", re.M)


@dataclass(frozen=True)
class Limit:
    """One quota on space (in bytes) or on files.

    Attributes:
        whose: such as `your quota`.
        soft, hard: infinite where there is no such limit.
        grace_ends: when what is above the soft limit ends being borne, in seconds since the epoch; None while
            it is not exceeded.
    """

    whose: str
    what: Literal["space", "files"]
    used: int
    soft: float
    hard: float
    grace_ends: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the grace time has run out, so that nothing more is taken."""
        return self.grace_ends is not None and self.grace_ends <= time.time()

    @property
    def left(self) -> float:
        return 0 if self.is_over else max(0, self.hard - self.used)


def limits(folder: Path, mount: Path, file_system: str) -> list[Limit]:
    """Every limit that holds for new files of this user in `folder`.

    Args:
        folder: one that is there.
        mount: where its file system is mounted.
        file_system: the kind of it, such as nfs4.
    """
    user, group = os.geteuid(), _group(folder)
    if file_system == "lustre":
        return list(_lustre(folder, mount, user, group))
    # -v: also where the user has no file yet. Whoever exceeds a quota gets the figures with an exit code of 1.
    text = _ask("quota", "-v", "-w", "-p", "-u", "-g", "-f", str(mount))
    found: list[Limit] = []
    pieces = _OWNER.split(text)[1:]
    for kind, number, figures in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        if kind == "user" and int(number) == user:
            found += read_figures("your quota", figures)
        elif kind == "group" and int(number) == group:
            found += read_figures(f"the quota of group {number}", figures)
    return found


def _group(folder: Path) -> int:
    """The group that new files in `folder` belong to."""
    about = folder.stat()
    return about.st_gid if about.st_mode & stat.S_ISGID else os.getegid()


def _lustre(folder: Path, mount: Path, user: int, group: int) -> Iterator[Limit]:
    yield from read_figures("your quota", _ask("lfs", "quota", "-q", "-u", str(user), str(mount)))
    yield from read_figures(
        f"the quota of group {group}", _ask("lfs", "quota", "-q", "-g", str(group), str(mount))
    )
    project = re.match(r"\s*([1-9]\d*)\s", _ask("lfs", "project", "-d", str(folder)))
    if project:
        text = _ask("lfs", "quota", "-q", "-p", project[1], str(mount))
        yield from read_figures(f"the quota of project {project[1]}", text)


def read_figures(whose: str, text: str) -> Iterator[Limit]:
    """The limits in what ``quota -w -p`` and ``lfs quota`` print of one owner and one file system."""
    match = _FIGURES.search(text)
    if match is None:
        return
    yield from _limit(whose, "space", 1024, match.groups()[:4])
    yield from _limit(whose, "files", 1, match.groups()[4:])


def _limit(whose: str, what: Literal["space", "files"], unit: int, figures: Sequence[str]) -> Iterator[Limit]:
    used, soft, hard, grace = figures
    if int(soft) or int(hard):
        most, at_last = (int(figure) * unit or math.inf for figure in (soft, hard))
        yield Limit(whose, what, int(used) * unit, most, at_last, _grace_ends(grace))


def _grace_ends(word: str) -> float | None:
    """quota -p gives seconds since the epoch and 0 for none; lfs '6d23h59m58s', '-' for none, 'none' at its end."""
    if word in ("none", "expired"):
        return 0.0
    if word.isdecimal():
        return float(word) or None
    parts = re.findall(r"(\d+)([wdhms])", word)
    seconds = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
    return time.time() + sum(int(number) * seconds[unit] for number, unit in parts) if parts else None


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
