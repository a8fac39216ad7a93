"""The code as it is at submit: jobs that wait in the queue run this copy, whatever is edited meanwhile.

::

    runs/<sweep>/code/<hash>/             the files of the checkout (:mod:`launchers.store.checkout`)
    runs/<sweep>/code/<hash>/.snapshot/   commit.json, changes.diff, environment.txt, files.json

Equal code is one folder, however often it is submitted. A file that is as in
the copy before is a hard link to that. No environment variable and no address
of a remote is written, files that hold secrets (.env, .netrc, ...) are left
out, and tokens elsewhere are replaced.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperformer.files import flush
from launchers.store import redaction
from launchers.store.checkout import PACKAGES, Checkout, read_checkout


@dataclass(frozen=True)
class Snapshot:
    """The code at one moment, without its secrets.

    Attributes:
        folder: where its copy is, or would be.
        code: what is copied; its contents hold no secrets.
    """

    folder: Path
    code: Checkout = field(default_factory=Checkout)

    @property
    def commit(self) -> str | None:
        """None outside of git."""
        return self.code.commit

    @property
    def notes(self) -> list[str]:
        """What jobs do not find in the copy, or as it is when they start, for the user."""
        notes = []
        if self.code.left_out:
            notes.append(f"not in the copy of the code that jobs run: {'; '.join(self.code.left_out)}")
        outside = list(_code_outside())
        if outside:
            notes.append(f"not copied, so jobs see what you change there: {', '.join(outside)}")
        return notes

    def write(self) -> None:
        """Write the copy, unless it is there already."""
        target = self.folder
        if target.is_dir():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        for folder in dict.fromkeys(map(os.path.dirname, [*self.code.files, *self.code.links])):
            (beside / folder).mkdir(parents=True, exist_ok=True)
        written = _write_files(self.code, beside, _PreviousCopy(target.parent))
        for name, link in self.code.links.items():
            (beside / name).symlink_to(link)
        (beside / ".snapshot").mkdir(parents=True)
        for name, text in {**describe(self), _FILES: json.dumps(written)}.items():
            (beside / ".snapshot" / name).write_text(text, encoding="utf-8", errors="surrogateescape")
        flush(beside)
        try:
            beside.rename(target)
        except OSError:  # another submit was faster
            shutil.rmtree(beside, ignore_errors=True)


_FILES = "files.json"


def take(code: Path, folder: Path) -> Snapshot:
    """Copy the code at `code` below `folder`, unless the same is there already."""
    found = read(code, folder)
    found.write()
    return found


def read(code: Path, folder: Path) -> Snapshot:
    """The code at `code` as it is now, to be copied below `folder`; writes nothing."""
    found = read_checkout(code)
    digest = hashlib.sha256(f"{found.commit}\n".encode())
    for name, (content, _) in sorted(found.files.items()):
        digest.update(f"{name}\n".encode(errors="surrogateescape"))
        digest.update(hashlib.sha256(content).digest())
    for name, target in sorted(found.links.items()):
        digest.update(f"{name} -> {target}\n".encode(errors="surrogateescape"))
    hide = redaction.hider()
    found.files = {name: (hide(content), mode) for name, (content, mode) in found.files.items()}
    found.diff = hide(found.diff.encode(errors="surrogateescape")).decode(errors="surrogateescape")
    return Snapshot(folder / digest.hexdigest()[:12], found)


class _PreviousCopy:
    """The newest copy below a folder: its files can be linked to, as long as they are unchanged."""

    def __init__(self, folder: Path) -> None:
        lists = sorted(folder.glob(f"*/.snapshot/{_FILES}"), key=lambda path: path.stat().st_mtime)
        self.folder = lists[-1].parents[1] if lists else folder
        self.files: Mapping[str, Any] = {}
        with suppress(OSError, ValueError, IndexError):
            self.files = json.loads(lists[-1].read_text(encoding="utf-8"))

    def link(self, name: str, key: str, path: str) -> bool:
        """Make `path` a link to the file of that name, if it has the content of `key`."""
        with suppress(OSError, TypeError, ValueError):  # no links here, or a list that makes no sense
            before, size, changed = self.files.get(name, ("", 0, 0))
            here = os.stat(f"{self.folder}/{name}")
            if before == key and (here.st_size, here.st_mtime_ns) == (size, changed):
                os.link(f"{self.folder}/{name}", path)
                return True
        return False


def _write_files(code: Checkout, folder: Path, previous: _PreviousCopy) -> dict[str, list[Any]]:
    """Write the files; returns of each what its content and mode are, its size, and when it was changed last."""
    written: dict[str, list[Any]] = {}
    for name, (content, mode) in code.files.items():
        runs = bool(mode & stat.S_IXUSR)
        key, path = f"{hashlib.sha256(content).hexdigest()[:32]}{'x' * runs}", f"{folder}/{name}"
        if not previous.link(name, key, path):
            with open(path, "wb") as copy:
                copy.write(content)
                if runs:
                    readable = os.fstat(copy.fileno()).st_mode
                    os.fchmod(copy.fileno(), readable | (readable & 0o444) >> 2)  # for whom may read it
        about = os.stat(path)
        written[name] = [key, about.st_size, about.st_mtime_ns]
    return written


def describe(snapshot: Snapshot) -> dict[str, str]:
    """What is beside a copy of the code: commit.json, changes.diff (in git) and environment.txt, by name."""
    code = snapshot.code
    record = {
        "commit": code.commit,
        "changed": code.changed,
        "left_out": code.left_out,
        "python": sys.version.split()[0],
    }
    # The folders' names tell it; parsing every package's metadata takes half a second.
    found = {
        entry.name.removesuffix(".dist-info").replace("-", "==", 1)
        for place in sys.path
        for entry in Path(place or ".").glob("*.dist-info")
    }
    versions = sorted(found, key=str.lower)
    head = f"# Python {sys.version.split()[0]}, {platform.platform()}\n"
    texts = {
        "commit.json": json.dumps(record, indent=2) + "\n",
        "environment.txt": head + "\n".join(versions) + "\n",
    }
    return texts | ({"changes.diff": code.diff} if code.commit else {})


CODE = Path(__file__).resolve().parents[2]


def python_path(code: Path = CODE) -> str:
    """PYTHONPATH with which a job finds this copy of the code, from whatever folder it starts."""
    if code == CODE and str(CODE) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return os.environ.get("PYTHONPATH", "")  # installed: python finds it by itself
    return os.pathsep.join([str(code), *_others_on_path()])


def _others_on_path() -> list[str]:
    """What the user's PYTHONPATH has besides this code."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [entry for entry in entries if entry and Path(entry).resolve() != CODE]


def explain_missing(errors: Iterable[BaseException]) -> str:
    """What to add to an error of a job that lacks a module; '' where none is missing."""
    if not any(isinstance(error, ModuleNotFoundError) for error in errors):
        return ""
    left_out: list[str] = []
    with suppress(OSError, ValueError, AttributeError):
        left_out = json.loads((CODE / ".snapshot" / "commit.json").read_text(encoding="utf-8"))["left_out"]
    without = f", which is without {'; '.join(left_out)}" if left_out else ""
    return f" (this job runs the copy of the code in {CODE}{without})"


def _code_outside() -> Iterator[str]:
    """Folders of code that jobs import and that are no part of the checkout, nor installed in the usual way."""
    for entry in _others_on_path():
        if os.path.isdir(entry):
            yield f"{entry} (PYTHONPATH)"
    for site in dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))):
        for path in sorted(Path(site).glob("*.pth")):
            for line in _lines(path):
                if os.path.isdir(line) and not _is_ours(line):
                    yield f"{line} ({path.name})"
        for path in sorted(Path(site).glob("__editable__*_finder.py")):
            match = re.search(r"^MAPPING\b.*?= (\{.*?\})", "\n".join(_lines(path)), re.M | re.S)
            with suppress(ValueError, SyntaxError, AttributeError, TypeError):
                for folder in ast.literal_eval(match[1] if match else "{}").values():
                    if not _is_ours(folder):
                        yield f"{folder} (pip install -e)"


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _is_ours(path: str) -> bool:
    """Whether it is this code, or another copy of it: ours comes first on the path."""
    folder = Path(path).resolve()
    return folder.is_relative_to(CODE) or any(
        (root / PACKAGES[0]).is_dir() for root in (folder, folder.parent)
    )
