"""How a setting is said: default, meaning, bounds, and what it can name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# What a setting that names a file or folder can hold: a path, or also a name on the hub; OUTPUT is written.
PATH, PATH_OR_NAME, OUTPUT = "path", "path or name", "output"


@dataclass(frozen=True)
class Bounds:
    """Numbers that a setting can have, and how an error says so."""

    hold: Callable[[float], bool]
    words: str


# More steps or rows than that nobody has time for, and no rate is larger.
MOST = 1_000_000_000
POSITIVE = Bounds(lambda value: 0 < value <= MOST, f"must be greater than 0, and at most {MOST:,}")
NOT_NEGATIVE = Bounds(lambda value: 0 <= value <= MOST, f"must not be negative, and at most {MOST:,}")
# Of what is in memory at once: rows, tokens, widths.
SIZE = Bounds(lambda value: 0 < value <= 1_000_000, "must be greater than 0, and at most 1,000,000")
POINTS = Bounds(lambda value: 0 <= value <= 100, "must be 0 to 100 points")
FRACTION = Bounds(lambda value: 0 <= value < 1, "must be at least 0 and below 1")
# Four times as long is a time that the system's clocks can hold.
MINUTES = Bounds(lambda value: 0 < value <= 10_000_000, "must be greater than 0, and at most 10,000,000")
MINUTES_OR_NEVER = Bounds(lambda value: 0 <= value <= 10_000_000, "must be 0 (never) to 10,000,000")
SEED = Bounds(lambda value: 0 <= value < 2**32, "must be at least 0 and below 2^32")


def setting(default: Any, help: str, *, hash: bool | None = None, **facts: Any) -> Any:
    """A dataclass field that carries all there is to say about a setting.

    Args:
        hash: False for a value that Python cannot hash.
        facts: attributes of :class:`hyperformer.settings.values.Setting`.
    """
    return field(default=default, hash=hash, metadata={"help": help, **facts})
