"""Hashes of files. A large file is read once.

Its hash is kept under ``~/.cache/hyperformer/hashes`` with the file's size, times and inode, and holds as long as
these stay.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from hyperformer.files import read_json, user_cache, write_json

_CACHE = user_cache() / "hashes"
# A file that was written so shortly before it was read may change again within its time stamp.
_SETTLED_S = 2.0
# Smaller files are read as quickly as the note on them.
_WORTH_A_NOTE = 1 << 20


def file_hash(path: Path) -> str:
    """Hash of a file's content, read or remembered.

    Raises:
        OSError: it cannot be read.
    """
    state = os.stat(path)
    stamp = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    note = _note_of(path) if state.st_size >= _WORTH_A_NOTE else None
    if note:
        with suppress(OSError, ValueError):
            known = read_json(note)
            if isinstance(known, dict) and known.get("stamp") == stamp:
                return str(known["hash"])
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()[:32]
    if note and time.time() - max(state.st_mtime, state.st_ctime) > _SETTLED_S:
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_json(note, {"path": str(path), "stamp": stamp, "hash": found})
    return found


def _note_of(path: Path) -> Path:
    """Where the hash of a file is kept."""
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    return _CACHE / f"{name}.json"
