"""What of the code jobs need: the files of the checkout, and what is left out of them, in words."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hyperformer.files import git_environment
from launchers.store import redaction

PACKAGES = ("hyperformer", "launchers")
# Above these, folders without Python code are left out, and then all but the packages.
_MOST_FILES, _MOST_BYTES = 5_000, 200 << 20
# A file outside of the checkout that a link points to is copied up to this size.
_MOST_OF_A_LINK = 1 << 20
_LIST = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")


@dataclass
class Checkout:
    """The code at one moment.

    Attributes:
        commit: None outside of git.
        files: content and mode by relative path.
        links: target by relative path: within the checkout relative, else absolute.
        left_out: what a copy lacks, or has as it is when a job starts; a line each.
        changed: git's lines on files that are not as committed, and `diff` what they differ in.
    """

    commit: str | None = None
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict, repr=False)
    links: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    diff: str = field(default="", repr=False)


def read_checkout(code: Path) -> Checkout:
    """The code at `code` as it is now; writes nothing."""
    # Three processes at once: this is most of what a submit waits for.
    listed, head, status = (
        _Git(code, *words) for words in (_LIST, ("rev-parse", "HEAD"), ("status", "--porcelain"))
    )
    found = Checkout()
    names = sorted(filter(None, listed.output().split("\0")))
    found.commit = head.output().strip() or None
    found.changed = status.output().splitlines()
    if not names and (listed.fault or (code / "pyproject.toml").exists()):
        why = f"git: {listed.fault}" if listed.fault else f"{code} is no git checkout"
        found.left_out.append(f"all but {' and '.join(PACKAGES)} ({why})")
    # A module that a rule of the user's lets git ignore is part of its package all the same.
    modules = (name for name in _package_files(code) if not names or name.endswith(".py"))
    about = _about(code, dict.fromkeys([*names, *modules]), found)
    _follow_links(code, about, found)
    for name in _within_limits(about, found):
        try:
            with open(f"{code}/{name}", "rb") as stream:
                found.files[name] = stream.read(), about[name].st_mode
        except FileNotFoundError:  # removed at this moment
            pass
        except OSError as error:
            found.left_out.append(f"{name} ({error.strerror})")
    if any(not line.startswith("??") for line in found.changed):
        secret = [f":(exclude,top,literal){name}" for name in names if redaction.is_secret_file(name)]
        words = ("diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--no-color", "--", ":(top)")
        found.diff = _Git(code, *words, *secret).output()
    return found


def _about(code: Path, names: Iterable[str], found: Checkout) -> dict[str, os.stat_result]:
    """Files and links that hold no secrets, in order; those of submodules, too."""
    about: dict[str, os.stat_result] = {}
    todo = list(names)
    for name in todo:  # which grows
        name = name.rstrip("/")
        try:
            here = os.lstat(f"{code}/{name}")
        except (FileNotFoundError, NotADirectoryError):  # git still lists what was removed
            continue
        if stat.S_ISDIR(here.st_mode):  # a submodule, or another repository
            inner = [part for part in _Git(code / name, *_LIST).output().split("\0") if part]
            todo += [f"{name}/{part}" for part in inner]
            if not inner:
                found.left_out.append(f"{name} (a submodule that is not checked out)")
        elif not redaction.is_secret_file(name) and stat.S_IFMT(here.st_mode) in (stat.S_IFREG, stat.S_IFLNK):
            about[name] = here
    return dict(sorted(about.items()))


def _follow_links(code: Path, about: dict[str, os.stat_result], found: Checkout) -> None:
    """A link stays one, except to a small file that is not copied itself."""
    links = [name for name, here in about.items() if stat.S_ISLNK(here.st_mode)]
    for name in links:
        del about[name]
    copied = {*about, *(parent for name in about for parent in _parents(name))}
    for name in links:
        target = os.path.realpath(f"{code}/{name}")
        inner = os.path.relpath(target, os.path.realpath(code))
        if name in copied or redaction.is_secret_file(os.path.basename(target)):
            continue  # `name`: a package that is a link, whose files are copied
        if inner in copied:
            found.links[name] = os.path.relpath(inner, os.path.dirname(name) or ".")
        elif not os.path.exists(target):
            found.left_out.append(f"{name} (a link to {target}, which is not there)")
        elif os.path.isfile(target) and os.stat(target).st_size <= _MOST_OF_A_LINK:
            about[name] = os.stat(target)
        else:
            found.links[name] = target
            found.left_out.append(f"{name} (a link to {target}: jobs use what is there when they start)")


def _parents(name: str) -> Iterator[str]:
    while name := os.path.dirname(name):
        yield name


def _within_limits(about: Mapping[str, os.stat_result], found: Checkout) -> list[str]:
    """The files to copy: all, or where those are too many the ones that hold code."""

    def fit(names: Iterable[str]) -> bool:
        sizes = [about[name].st_size for name in names]
        return len(sizes) <= _MOST_FILES and sum(sizes) <= _MOST_BYTES

    top = {name: name.partition("/")[0] for name in about}
    with_code = {top[name] for name in about if name.endswith(".py") or "/" not in name}
    needed = {*PACKAGES, "setup.py", "pyproject.toml"}
    for kept in (set(top.values()), with_code, needed):
        names = [name for name in about if top[name] in kept]
        if fit(names) or kept is needed:
            break
    left = sorted(set(top.values()) - kept)
    if left:
        names_text = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
        size = sum(each.st_size for each in about.values())
        found.left_out.append(f"{names_text} (the checkout has {len(about):,} files, {size / 1e6:,.0f} MB)")
    return names


def _package_files(code: Path) -> Iterator[str]:
    for package in PACKAGES:
        for folder, folders, names in os.walk(code / package):
            folders[:] = [name for name in folders if name != "__pycache__"]
            inner = os.path.relpath(folder, code)
            yield from (f"{inner}/{name}" for name in names)


class _Git:
    """A git command, begun; silent where `code` is not a checkout of its own, or git is not here."""

    def __init__(self, code: Path, *words: str) -> None:
        self.fault = ""
        self._process: subprocess.Popen[str] | None = None
        if (code / ".git").exists():
            with suppress(OSError):
                self._process = subprocess.Popen(
                    ["git", *words], cwd=code, env=git_environment(), text=True, errors="surrogateescape",
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                )  # fmt: skip

    def output(self) -> str:
        """What it prints in the end; '' where it fails, and then `fault` says why."""
        if self._process is None:
            return ""
        out, errors = self._process.communicate()
        if self._process.returncode:
            self.fault = next(iter(errors.strip().splitlines()), "") or "it fails"
            return ""
        return out
