"""Signal handlers for the time of a block. Imports no torch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def signals_handled(
    numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], object] | signal.Handlers
) -> Iterator[None]:
    """Let `handler` have these signals in this block; afterwards the handlers of before have them again."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def signals_deferred(numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Let the first of these signals that comes in this block have its effect after it, and not within."""
    came: list[int] = []
    with signals_handled(numbers, lambda number, frame: came.append(number)):
        yield
    if came:
        signal.raise_signal(came[0])
