"""The code as it is at submit: jobs that wait in the queue run this copy, whatever is edited meanwhile.

::

    runs/<sweep>/code/<hash>/             the files of the checkout that git does not ignore
    runs/<sweep>/code/<hash>/.snapshot/   commit.json, changes.diff, environment.txt

Equal code is one folder, however often it is submitted. No environment
variable and no address of a remote is written, files that hold secrets (.env,
.netrc, ...) are left out, and tokens elsewhere are blotted out.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hyperformer.files import flush
from launchers import redaction

_PACKAGES = ("hyperformer", "launchers")
_MOST_BYTES = 200 << 20


@dataclass(frozen=True)
class Snapshot:
    """A copy of the code; `commit` is None outside of git."""

    folder: Path
    commit: str | None


def take(code: Path, folder: Path, write: bool = True) -> Snapshot:
    """Copy the code at `code` below `folder`, unless the same is there already.

    Args:
        write: without it only say where it would be.
    """
    commit = _git(code, "rev-parse", "HEAD")
    names = _files(code) if commit else _package_files(code)
    digest = hashlib.sha256(f"{commit}\n".encode())
    for name in names:
        digest.update(f"{name}\n".encode(errors="surrogateescape"))
        digest.update(hashlib.sha256((code / name).read_bytes()).digest())
    target = folder / digest.hexdigest()[:12]
    found = Snapshot(target, commit.strip() if commit else None)
    if target.is_dir() or not write:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    made: set[Path] = set()
    for name in names:
        copy = beside / name
        if copy.parent not in made:
            copy.parent.mkdir(parents=True, exist_ok=True)
            made.add(copy.parent)
        copy.write_bytes(redaction.hide_bytes((code / name).read_bytes()))
        if os.access(code / name, os.X_OK):
            copy.chmod(copy.stat().st_mode | (copy.stat().st_mode & 0o444) >> 2)  # for whom may read it
    _describe(code, beside / ".snapshot", found.commit)
    flush(beside)
    try:
        beside.rename(target)
    except OSError:  # another submit was quicker
        shutil.rmtree(beside, ignore_errors=True)
    return found


def _files(code: Path) -> list[str]:
    """Tracked files and new ones that git does not ignore, as they are in the working tree."""
    listed = _git(code, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate") or ""
    found, size = [], 0
    for name in sorted(filter(None, listed.split("\0"))):
        path = code / name
        if path.is_file() and not path.is_symlink() and not redaction.is_secret_file(name):
            size += path.stat().st_size
            found.append(name)
    if size > _MOST_BYTES:  # someone's data lies in the checkout: the packages are what jobs need
        return [name for name in found if name.split("/")[0] in (*_PACKAGES, "setup.py", "pyproject.toml")]
    return found


def _package_files(code: Path) -> list[str]:
    return sorted(
        str(path.relative_to(code))
        for package in _PACKAGES
        for path in (code / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not redaction.is_secret_file(path.name)
    )


def _describe(code: Path, folder: Path, commit: str | None) -> None:
    folder.mkdir(parents=True)
    changed = _git(code, "status", "--porcelain") or ""
    record = {"commit": commit, "changed": changed.splitlines(), "python": sys.version.split()[0]}
    (folder / "commit.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if commit:
        tracked = (_git(code, "ls-files", "-z") or "").split("\0")
        secret = [f":(exclude,top,literal){name}" for name in tracked if redaction.is_secret_file(name)]
        diff = _git(code, "diff", "HEAD", "--binary", "--", ":(top)", *secret) or ""
        hidden = redaction.hide_bytes(diff.encode(errors="surrogateescape"))
        (folder / "changes.diff").write_bytes(hidden)
    # The folders' names tell it; parsing every package's metadata takes half a second.
    found = {
        entry.name.removesuffix(".dist-info").replace("-", "==", 1)
        for place in sys.path
        for entry in Path(place or ".").glob("*.dist-info")
    }
    versions = sorted(found, key=str.lower)
    head = f"# Python {sys.version.split()[0]}, {platform.platform()}\n"
    (folder / "environment.txt").write_text(head + "\n".join(versions) + "\n", encoding="utf-8")


def _git(code: Path, *words: str) -> str | None:
    """What git prints, or None where `code` is no checkout of its own (or git is not here)."""
    if not (code / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(code), *words],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
