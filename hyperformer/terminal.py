"""Standard streams that are closed, or cannot write every character. Imports no torch."""

from __future__ import annotations

import os
import sys


def prepare_streams() -> None:
    """Make standard input, output and error usable; a command calls this first.

    A stream that is closed becomes /dev/null: else print fails, and the next file that is
    opened gets the number of standard output. A character that the terminal's encoding
    does not have is written as its code (\\\\u4e2d), not as an error.
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
            stream.reconfigure(errors="backslashreplace")
