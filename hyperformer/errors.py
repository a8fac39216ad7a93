"""The errors that users meet. Each message says what, where, why, and what to write instead."""

from __future__ import annotations

import difflib
import errno
import unicodedata
from collections.abc import Iterable

# Exit codes of a process that ended itself: it no longer moved (hyperformer.run_files.watchdog), or
# another trainer has taken its run over (hyperformer.run_files.run_lock).
HANG_EXIT = 86
TAKEN_OVER_EXIT = 87


class HyperformerError(Exception):
    """Base of every error that the user can correct; shown without a traceback."""


class ConfigError(HyperformerError):
    """A setting is unknown, impossible, or contradicts another."""


class DataError(HyperformerError):
    """A data set is missing, or its rows are not what the task needs."""


class CheckpointError(HyperformerError):
    """A checkpoint or a model folder cannot be used."""


class DiskFull(CheckpointError):
    """There is no room, or no quota, for a file; what was complete before still is."""


class RunInUse(HyperformerError):
    """Another process trains this run. Nothing was changed, and nothing failed."""


class Hang(HyperformerError):
    """A rank no longer moves; the other ranks have waited for it as long as they may."""


class Diverged(HyperformerError):
    """The loss, a gradient or the weights are no longer finite numbers. No checkpoint was saved with them."""


class OutOfMemory(HyperformerError):
    """The memory is too small for what the run does at once. What was saved is complete."""


class EvaluationOutOfMemory(OutOfMemory):
    """The memory is too small for a forward of an evaluation."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: '; did you mean ...?' or the list of known names.

    >>> nearest("taks", ["tasks", "seed"])
    "; did you mean 'tasks'?"
    """
    known = list(known)
    twins = [one for one in known if one != name and _form(one) == _form(name)]
    if twins:
        return f"; {twins[0]!r} looks alike and has other Unicode characters: {ascii(twins[0])}, not {ascii(name)}"
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(sorted(known))}"


def _form(name: object) -> str:
    return unicodedata.normalize("NFC", str(name))


def clip(text: str, most: int) -> str:
    """A text in one line of at most `most` characters, cut between two words.

    >>> clip("no row\\n  has a label", 12)
    'no row has …'
    """
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    head, _, _ = text[: most - 1].rpartition(" ")  # room for a blank and the dots
    return f"{head if 2 * len(head) > most else text[: most - 2]} …"


_REMEDIES = {
    errno.ENOSPC: "make room there and give the same command again; no file is half written",
    errno.EDQUOT: "your quota there is used up: make room and give the same command again",
    errno.EROFS: "name a folder that can be written to",
    errno.EACCES: "ask for the right to it, or name another folder",
    errno.EPERM: "ask for the right to it, or name another folder",
    errno.EEXIST: "a file is where a folder must be: rename it, then give the same command again",
    errno.ENOTDIR: "a file is where a folder must be: rename it, then give the same command again",
    errno.EISDIR: "a folder is where a file must be: rename it, then give the same command again",
    errno.EIO: "the disk or the network file system fails; give the same command again when it works",
}


def describe_os_error(error: OSError) -> str:
    """An error of the operating system for the user: where, why, and what to do."""
    where = f"{error.filename}: " if error.filename else "a file, or what is printed: "
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{where}{error.strerror or error}" + (f"; {remedy}" if remedy else "")


def describe_decode_error(error: UnicodeDecodeError) -> str:
    """Bytes that are no text, for the user: which byte, and what to do."""
    encoding = error.encoding.upper().removesuffix("-SIG")
    return (
        f"not {encoding} text ({error.reason}, byte 0x{error.object[error.start]:02x}); save the file as "
        "UTF-8, for example: iconv -f LATIN1 -t UTF-8"
    )


def line_of(error: UnicodeDecodeError) -> int:
    """The line, from 1, of a whole file that is no text."""
    return error.object.count(b"\n", 0, error.start) + 1


class FileError(HyperformerError, ValueError):
    """A file that we wrote is damaged."""


class Interrupted(HyperformerError):
    """The run was asked to stop; it has saved and can resume.

    Attributes:
        signal: number of the signal that asked: SIGINT, SIGTERM, or SIGUSR2 (the time
            limit is near: SLURM's signal ahead of it, or the deadline given to ``run``).
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class Paused(HyperformerError):
    """The run has reached the step at which it was to pause; it has saved and can resume."""
