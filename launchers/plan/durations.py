"""Durations as SLURM writes them, and as it is told them."""

from __future__ import annotations

import re

_DURATION = re.compile(
    r"(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"
    r"|(?:(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+)(?:\.\d+)?)"
)


def read_duration(text: str) -> int | None:
    """Seconds of '4:05', '3:04:05', '2-03', '2-03:04' or '2-03:04:05'; None for any other text, such as UNLIMITED.

    >>> read_duration("1-00:00:10"), read_duration("4:05"), read_duration("UNLIMITED")
    (86410, 245, None)
    """
    match = _DURATION.fullmatch(text)
    if not match:
        return None
    part = {name: int(value or 0) for name, value in match.groupdict().items()}
    hours, minutes = part["hours"] + part["h"], part["minutes"] + part["m"]
    return part["days"] * 86_400 + hours * 3_600 + minutes * 60 + part["seconds"] + part["s"]
