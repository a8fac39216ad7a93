"""Signals that ask a run to stop: they set a flag, and the loop looks at it between steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from hyperformer.training.distributed import World

STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """The signal that asked this process to stop, or 0."""

    def __init__(self) -> None:
        self.signal = 0

    def set(self, number: int, _frame: FrameType | None) -> None:
        if self.signal:
            # The second one means it: whatever is going on ends here.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number

    def agreed(self, world: World) -> int:
        """The signal that any rank got, on every rank alike; 0 if none did."""
        if world.size == 1:
            return self.signal
        # A sum, since every backend has it; two ranks with different signals still stop.
        flag = torch.tensor([self.signal, bool(self.signal)], device=world.device)
        total, ranks = world.sum(flag).tolist()
        return int(total // ranks) if ranks else 0


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Catch SIGINT and SIGTERM in this block. The handlers do nothing but set the flag."""
    flag = StopFlag()
    before = {number: signal.signal(number, flag.set) for number in STOPPING}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
