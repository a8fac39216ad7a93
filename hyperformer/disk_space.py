"""A full disk or quota: whose file it was, which file system has no room, and what to do. Imports no torch."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hyperformer.errors import CheckpointError, DiskFull

FULL = (errno.ENOSPC, errno.EDQUOT)
SHARED_MEMORY = Path("/dev/shm")
# Less than this, and the next file does not fit.
_ALMOST_NOTHING = 1 << 20


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that there is no room, or no quota, left."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    # safetensors, torch and NCCL say it in words only.
    words = ("os error 28)", "os error 122)", os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
    return any(word in str(error) for word in words)


@contextmanager
def explain_disk_full(path: str | Path | None = None, *, among: Sequence[str | Path] = ()) -> Iterator[None]:
    """In this block, a full disk is a :class:`DiskFull` that names the file system that is full.

    Args:
        path: the one place that the block writes to.
        among: for a block that writes to many places, those of the run; the error has to say which.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise _disk_full(error, Path(path) if path else None, [Path(place) for place in among]) from error


def write_error(error: BaseException, path: Path) -> CheckpointError:
    """The error for a file of a run that could not be written: the disk is full, or the error's own words."""
    if isinstance(error, CheckpointError):
        return error
    if is_disk_full(error):
        return _disk_full(error, path, [])
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return CheckpointError(f"{path} could not be written: {type(error).__name__}: {reason}")


def _disk_full(error: BaseException, path: Path | None, among: Sequence[Path]) -> DiskFull:
    own = [path] if path else list(among)
    place = _named_in(error) or path or next(filter(_has_no_room, [*own, *_other_places()]), None)
    again = "then start the same command again: the run resumes from its last complete checkpoint"
    if place is None:
        room = ", ".join(f"{place} ({_free(place)})" for place in [*own, *_other_places()])
        return DiskFull(
            f"a file could not be written: {error}. Free some space where it was, {again}. Room now: {room}"
        )
    return DiskFull(f"{place} could not be written: {_reason(error, place)}. {_remedy(place, own)}, {again}")


def _named_in(error: BaseException) -> Path | None:
    """The file that the error itself names."""
    named = getattr(error, "filename", None)
    if isinstance(named, str | bytes) and os.path.isabs(named):
        return Path(os.fsdecode(named))
    paths = (Path(words) for words in re.findall(r"(/[^\s'\"(),:]+)", str(error)) if words.count("/") > 1)
    return next((path for path in paths if path.parent.is_dir()), None)


def _other_places() -> list[Path]:
    """Where libraries write on their own account."""
    return [SHARED_MEMORY, _temporary(), _hub_cache()]


def _hub_cache() -> Path:
    return Path(os.path.expanduser(os.environ.get("HF_HOME") or "~/.cache/huggingface"))


def _temporary() -> Path:
    # gettempdir() passes over a folder that is full.
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next((folder for folder in [path, *path.parents] if folder.exists()), Path("/"))


def _has_no_room(path: Path) -> bool:
    with suppress(OSError):
        room = os.statvfs(_existing(path))
        return room.f_bavail * room.f_frsize < _ALMOST_NOTHING or (room.f_files > 0 and room.f_favail == 0)
    return False


def _reason(error: BaseException, place: Path) -> str:
    folder = _existing(place)
    mount = next((f for f in [folder, *folder.parents] if os.path.ismount(f)), Path("/"))
    if getattr(error, "errno", None) == errno.EDQUOT or os.strerror(errno.EDQUOT) in str(error):
        return f"your quota on the file system {mount} is used up"
    return f"the file system {mount} is full ({_free(place)})"


def _free(place: Path) -> str:
    try:
        room = os.statvfs(_existing(place))
    except OSError as error:
        return str(error.strerror)
    if room.f_files > 0 and room.f_favail == 0:
        return "no inodes free: it takes no more files"
    free, size = (count * room.f_frsize / 1e6 for count in (room.f_bavail, room.f_blocks))
    return f"{free:,.0f} MB free of {size:,.0f} MB"


def _remedy(place: Path, own: Sequence[Path]) -> str:
    if any(place.is_relative_to(folder) for folder in own):
        return "Free some space there"
    if place.is_relative_to(SHARED_MEMORY):
        return (
            "It is shared memory, small in containers: start the container with --shm-size=8g or --ipc=host"
        )
    if place.is_relative_to(_hub_cache()):
        return "It is the cache of models and data sets: free some space there, or set HF_HOME to a folder elsewhere"
    if place.is_relative_to(_temporary()):
        return (
            "It is the folder for temporary files: free some space there, or set TMPDIR to a folder elsewhere"
        )
    return "Free some space there"
