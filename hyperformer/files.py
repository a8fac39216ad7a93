"""Files that are written atomically: under a temporary name, flushed, renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from hyperformer.errors import CheckpointError, FileError, HyperformerError

_LEFTOVER_S = 3600


class Entry:
    """A file or folder by its name, as an attribute of a class whose `path` is the folder that it is in."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: Any, owner: type) -> Path:
        return folder.path / self.name


@contextmanager
def atomic_write(path: str | Path, mode: str = "w", *, durable: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file in the folder of `path`; on a clean exit flush it to disk and rename it.

    The file gets the permissions of the user's umask. On an error nothing is
    left behind and an older `path` stays as it was.

    Args:
        durable: wait until the disk has it. Without that, a machine that loses power may keep an empty file.
    """
    path = Path(path)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        error.filename = str(path)
        raise
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        apply_umask(temporary)
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename, error.filename2 = str(path), None  # a full disk itself names no file
        raise


def expand_home(path: str | Path) -> Path:
    """`path` with ``~`` and ``~name`` replaced; as it is where there is no such user, or this one has no home.

    Not :meth:`Path.expanduser`, which raises RuntimeError there.
    """
    return Path(os.path.expanduser(path))


def user_cache() -> Path:
    """The folder of what can be made again. Of a user without a home, a place that takes no files."""
    folder = expand_home("~/.cache/hyperformer")
    return folder if folder.is_absolute() else Path(os.devnull, "no-home")


def is_text(value: str) -> bool:
    """Whether a file can hold it: a name with bytes that are no UTF-8 has halves of characters in Python."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def apply_umask(path: Path) -> None:
    """Give a file or folder the permissions that the user's umask gives to a new one."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def sweep_leftovers(folder: Path) -> None:
    """Remove the temporary files (``.*.tmp``) of writers that were killed.

    One that is younger than an hour may be in use.
    """
    for entry in folder.glob(".*.tmp"):
        with suppress(OSError):
            if abs(time.time() - entry.stat().st_mtime) > _LEFTOVER_S:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def write_json(path: str | Path, value: Any, *, durable: bool = True) -> None:
    """Write `value` as indented JSON, atomically; `durable` as in :func:`atomic_write`."""
    with atomic_write(path, durable=durable) as stream:
        json.dump(value, stream, indent=2, ensure_ascii=False)
        stream.write("\n")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file, or None if there is no such file.

    Raises:
        FileError: the file is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FileError(f"{path}: not a JSON file: {error}") from error


def read_object(
    path: Path,
    error: type[HyperformerError] = FileError,
    *,
    where: str = "",
    keys_once: bool = False,
    most_bytes: int | None = None,
) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        error: what is raised.
        where: names the file in messages; default: its path.
        keys_once: refuse an object that has a key twice; else the last one counts.
        most_bytes: refuse a larger file.

    Raises:
        HyperformerError, of the type `error`: the file is missing or cannot be read, or holds no JSON object.
    """
    where = where or str(path)
    try:
        if most_bytes is not None and path.stat().st_size > most_bytes:
            raise ValueError(f"it has more than {most_bytes:,} bytes")
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once if keys_once else None)
    except FileNotFoundError:
        raise error(f"{where} is missing") from None
    except OSError as cause:
        raise error(f"{where}: cannot be read: {cause.strerror or cause}") from cause
    except (ValueError, RecursionError) as cause:
        raise error(f"{where}: not JSON that can be read: {cause}") from cause
    if not isinstance(found, dict):
        raise error(f"{where}: must be one JSON object, not a {type(found).__name__}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"it has {', '.join(twice)} more than once")
    return dict(pairs)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content, as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_environment() -> dict[str, str]:
    """The environment for git to look at the checkout that it is asked about.

    Variables of a shell or a git hook, such as GIT_DIR, would make it look at another one.
    """
    kept = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH")
    others = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in kept
    }
    return {**others, "GIT_OPTIONAL_LOCKS": "0"}


def flush(path: str | Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill; on a clean exit it is renamed to `path`, on an error it is removed.

    Raises:
        CheckpointError: `path` exists, and is not an empty folder.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise CheckpointError(f"{path} already exists; name a new folder, or move that one away")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        apply_umask(temporary)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
