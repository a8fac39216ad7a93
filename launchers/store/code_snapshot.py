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
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hyperformer.files import flush
from launchers.store import redaction

_PACKAGES = ("hyperformer", "launchers")
_MOST_BYTES = 200 << 20


@dataclass(frozen=True)
class Snapshot:
    """The code at one moment, without its secrets.

    Attributes:
        folder: where its copy is, or would be.
        commit: None outside of git.
        files: content and mode by relative path, in order.
        changed: git's lines on files that are not as committed, and `diff` what they differ in.
    """

    folder: Path
    commit: str | None
    files: dict[str, tuple[bytes, int]] = field(repr=False)
    changed: list[str]
    diff: bytes = field(repr=False)

    def write(self) -> None:
        """Write the copy, unless it is there already."""
        target = self.folder
        if target.is_dir():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        for folder in dict.fromkeys(os.path.dirname(name) for name in self.files):
            (beside / folder).mkdir(parents=True, exist_ok=True)
        for name, (content, mode) in self.files.items():
            with open(f"{beside}/{name}", "wb") as copy:
                copy.write(content)
                if mode & stat.S_IXUSR:
                    readable = os.fstat(copy.fileno()).st_mode
                    os.fchmod(copy.fileno(), readable | (readable & 0o444) >> 2)  # for whom may read it
        _describe(self, beside / ".snapshot")
        flush(beside)
        try:
            beside.rename(target)
        except OSError:  # another submit was quicker
            shutil.rmtree(beside, ignore_errors=True)


def take(code: Path, folder: Path) -> Snapshot:
    """Copy the code at `code` below `folder`, unless the same is there already."""
    found = read(code, folder)
    found.write()
    return found


def read(code: Path, folder: Path) -> Snapshot:
    """The code at `code` as it is now, to be copied below `folder`; writes nothing."""
    # Three processes at once: this is most of what a submit waits for.
    listed, head, status = (
        _Git(code, *words) for words in (
            ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"),
            ("rev-parse", "HEAD"),
            ("status", "--porcelain"),
        )
    )  # fmt: skip
    names = sorted(filter(None, listed.said().split("\0")))
    commit = head.said()
    tracked = (name for name in names if not os.path.islink(f"{code}/{name}"))
    files = _contents(code, tracked if commit else _package_files(code))
    digest = hashlib.sha256(f"{commit or None}\n".encode())
    for name, (content, _) in files.items():
        digest.update(f"{name}\n".encode(errors="surrogateescape"))
        digest.update(hashlib.sha256(content).digest())
    hide = redaction.hider()
    hidden = {name: (hide(content), mode) for name, (content, mode) in files.items()}
    changed = status.said().splitlines()
    diff = ""
    if any(not line.startswith("??") for line in changed):
        secret = [f":(exclude,top,literal){name}" for name in names if redaction.is_secret_file(name)]
        diff = _Git(code, "diff", "HEAD", "--binary", "--", ":(top)", *secret).said()
    return Snapshot(
        folder / digest.hexdigest()[:12],
        commit.strip() or None,
        hidden,
        changed,
        hide(diff.encode(errors="surrogateescape")),
    )


def _contents(code: Path, names: Iterable[str]) -> dict[str, tuple[bytes, int]]:
    """Regular files that hold no secrets; of a checkout in which someone's data lie the packages only."""
    found = {}
    for name in names:
        try:
            about = os.stat(f"{code}/{name}")
        except (FileNotFoundError, NotADirectoryError):  # git still lists what was removed
            continue
        if stat.S_ISREG(about.st_mode) and not redaction.is_secret_file(name):
            found[name] = about
    if sum(about.st_size for about in found.values()) > _MOST_BYTES:
        needed = (*_PACKAGES, "setup.py", "pyproject.toml")
        found = {name: about for name, about in found.items() if name.split("/")[0] in needed}
    contents = {}
    for name, about in found.items():
        with open(f"{code}/{name}", "rb") as stream:
            contents[name] = stream.read(), about.st_mode
    return contents


def _package_files(code: Path) -> list[str]:
    return sorted(
        str(path.relative_to(code))
        for package in _PACKAGES
        for path in (code / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not redaction.is_secret_file(path.name)
    )


def _describe(snapshot: Snapshot, folder: Path) -> None:
    folder.mkdir(parents=True)
    record = {
        "commit": snapshot.commit,
        "changed": snapshot.changed,
        "python": sys.version.split()[0],
    }
    (folder / "commit.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if snapshot.commit:
        (folder / "changes.diff").write_bytes(snapshot.diff)
    # The folders' names tell it; parsing every package's metadata takes half a second.
    found = {
        entry.name.removesuffix(".dist-info").replace("-", "==", 1)
        for place in sys.path
        for entry in Path(place or ".").glob("*.dist-info")
    }
    versions = sorted(found, key=str.lower)
    head = f"# Python {sys.version.split()[0]}, {platform.platform()}\n"
    (folder / "environment.txt").write_text(head + "\n".join(versions) + "\n", encoding="utf-8")


class _Git:
    """A git command, begun; silent where `code` is no checkout of its own, or git is not here."""

    def __init__(self, code: Path, *words: str) -> None:
        self._process: subprocess.Popen[str] | None = None
        if (code / ".git").exists():
            with suppress(OSError):
                self._process = subprocess.Popen(
                    ["git", "--no-optional-locks", "-C", str(code), *words], text=True, errors="surrogateescape",
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )  # fmt: skip

    def said(self) -> str:
        """What it prints in the end; '' where it fails."""
        if self._process is None:
            return ""
        out, _ = self._process.communicate()
        return "" if self._process.returncode else out


CODE = Path(__file__).resolve().parents[2]


def python_path(code: Path = CODE) -> str:
    """PYTHONPATH with which a job finds this copy of the code, from whatever folder it starts."""
    before = os.environ.get("PYTHONPATH", "")
    others = [entry for entry in before.split(os.pathsep) if entry and Path(entry).resolve() != CODE]
    if code == CODE and str(CODE) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return before  # installed: python finds it by itself
    return os.pathsep.join([str(code), *others])
