"""Whether there is room for a sweep's files: on the disk, and under the user's quota there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launchers.submit import quota

# Room that a run's files take at least; checkpoints come on top.
_FILES_A_RUN, _BYTES_A_RUN = 30, 1 << 20
_WAY_ON = (
    "remove what is no longer needed there (`sweep.py clean SWEEP`: checkpoints of runs that are done), ask for more, "
    "or choose another --runs-dir"
)


@dataclass(frozen=True)
class SpaceReport:
    """What is too little for the sweep, and what may become so: a line each."""

    findings: list[str]
    notes: list[str]


def check_space(folder: Path, count: int) -> SpaceReport:
    """Look whether `count` runs have room in `folder`, which need not be there."""
    while not folder.exists():
        folder = folder.parent
    folder = folder.resolve()
    limits = quota.limits(folder, *mount(folder))
    return SpaceReport(
        [
            *_disk(folder, count),
            *(text for limit in limits for text in _too_little(folder, limit, count)),
        ],
        [text for limit in limits for text in _soon_too_little(folder, limit, count)],
    )


def mount(folder: Path) -> tuple[Path, str]:
    """Where the file system that `folder` is on is mounted, and its kind ('nfs4'); '' where that is not known."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        mounts = []
    best, kind = "/", ""
    for line in mounts:
        _, mount_point, name, *_ = line.split(" ")
        mount_point = mount_point.replace("\\040", " ")
        if folder.is_relative_to(mount_point) and len(mount_point) >= len(best):
            best, kind = mount_point, name
    return Path(best), kind


def _disk(folder: Path, count: int) -> Iterator[str]:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return
    free = disk.f_bavail * disk.f_frsize
    if free < count * _BYTES_A_RUN:
        yield f"{folder}: {free >> 20} MB are free, too little for {count} runs"
    if disk.f_files and disk.f_favail < count * _FILES_A_RUN:
        yield (
            f"{folder}: room for {disk.f_favail} more files, but {count} runs need about {count * _FILES_A_RUN}"
        )


def _too_little(folder: Path, limit: quota.Limit, count: int) -> Iterator[str]:
    if limit.is_over:
        state = f"is exceeded ({_used(limit, limit.soft)}) and its grace time over, so that nothing is written there"
    elif limit.left < _need(limit, count):
        state = f"leaves {_amount(limit, limit.left)} ({_used(limit, limit.hard)})"
    else:
        return
    yield f"{folder}: {limit.whose} {state}, but {_needed(limit, count)}; {_WAY_ON}"


def _soon_too_little(folder: Path, limit: quota.Limit, count: int) -> Iterator[str]:
    used = f"{folder}: {limit.whose} ({_used(limit, limit.soft)})"
    if limit.grace_ends is not None:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(limit.grace_ends))
        yield f"{used} is exceeded: after {until} nothing more is written there, unless you remove something"
    elif limit.used + _need(limit, count) > limit.soft:
        yield f"{used} can be exceeded for its grace time only, and {_needed(limit, count)}"


def _need(limit: quota.Limit, count: int) -> int:
    return count * (_BYTES_A_RUN if limit.what == "space" else _FILES_A_RUN)


def _needed(limit: quota.Limit, count: int) -> str:
    runs = "1 run needs" if count == 1 else f"{count} runs need"
    return f"{runs} about {_amount(limit, _need(limit, count))} and room for checkpoints"


def _used(limit: quota.Limit, most: float) -> str:
    return f"{_number(limit, limit.used)} of {_amount(limit, most)} used"


def _amount(limit: quota.Limit, number: float) -> str:
    return f"{_number(limit, number)} {'MB' if limit.what == 'space' else 'files'}"


def _number(limit: quota.Limit, number: float) -> str:
    return f"{number / (1 << 20) if limit.what == 'space' else number:,.0f}"
