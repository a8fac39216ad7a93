"""Standard streams that are closed, lose their reader, or cannot write every character. Imports no torch."""

from __future__ import annotations

import codecs
import io
import os
import sys
from types import TracebackType
from typing import Any

# What has a plain form; other characters are written as their code.
_PLAIN = {"─": "-", "–": "-", "—": "-", "…": "~", "±": "+-", "“": '"', "”": '"', "’": "'", "→": "->"}
_HANDLER = "hyperformer.readable"


def _readable(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    letters = (_PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in wrong)
    return "".join(letters), error.end


codecs.register_error(_HANDLER, _readable)


def prepare_streams() -> None:
    """Make standard input, output and error usable; a command calls this first.

    A stream that is closed becomes /dev/null: else print fails, and the next file that is
    opened gets the number of standard output. A character that the terminal's encoding
    does not have is written in a plain form (- for a dash) or as its code (\\\\u4e2d), not as an error.
    """
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's streams have no encoding
            stream.reconfigure(errors=_HANDLER)


def quiet_interrupts() -> None:
    """Have Ctrl-C end a command by a word, not by a traceback; also while its modules are imported."""
    other_errors = sys.excepthook

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        else:
            other_errors(kind, error, trace)

    sys.excepthook = tell


class _Patient(io.FileIO):
    """A descriptor that becomes /dev/null when its reader has gone."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(data)


def ignore_broken_pipe() -> None:
    """Continue when the reader of standard output or error (`head`, a pager) has gone.

    A command with work to do calls it: else that work ends in its middle, at the next line that is printed.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue  # somebody else's, such as a notebook's
        stream.flush()
        raw = _Patient(number, "w", closefd=False)
        buffer = raw if stream.write_through else io.BufferedWriter(raw)  # as Python itself does under -u
        options = stream.encoding, stream.errors, None, stream.line_buffering, stream.write_through
        setattr(sys, name, io.TextIOWrapper(buffer, *options))


def print_no_more() -> None:
    """After standard output has failed: Python would try once more at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """`text` with what does something to a terminal written as its code; line ends stay.

    >>> printable("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text)


def print_error(text: object) -> None:
    """Tell of an error on standard error. It may quote names and values that do something to a terminal."""
    print(f"error: {printable(str(text))}", file=sys.stderr)


def as_written(text: str) -> str:
    """`text` as standard output shows it, so that its length is its width."""
    if text.isascii():
        return text
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _HANDLER).decode(encoding)
