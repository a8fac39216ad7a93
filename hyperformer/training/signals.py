"""What asks a run to stop: signals (preemption, Ctrl-C) and the deadline. They set a flag, which the run checks.

**When a run stops ahead of its deadline.** It must finish what it is doing, and
save. So it stops as soon as less time is left than twice the longest unit of
work so far, plus twice the longest save so far, plus :data:`SAFETY_MARGIN_S`. A unit is
what is done between two checks of the flag. With one process, that is a step or a
batch of evaluation. With several, it is the steps until the ranks agree again:
as many as fit into :data:`AGREE_INTERVAL_S`, at most 8, because agreeing waits for
the slowest rank. The clock of rank 0 counts.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

import torch

from hyperformer.signal_handlers import signals_handled
from hyperformer.training.ranks.distributed import DistributedContext

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
SAFETY_MARGIN_S = 10.0
AGREE_INTERVAL_S = 5.0
_AGREE_STEPS = 8
# A Ctrl-C reaches a run twice where the process that started it passes it on (ranks.task_processes).
_SAME_SECONDS = 0.5


class StopFlag:
    """The signal that asked this run to stop, or 0; SIGUSR2 where the deadline did.

    Args:
        deadline: seconds since the epoch at which the process will be killed.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self.signal, self.deadline = 0, deadline
        self._since = 0.0
        self._longest_s = {"step": 0.0, "batch": 0.0, "save": 0.0}
        self._next_check = 0

    def set(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal == number == signal.SIGINT and now - self._since > _SAME_SECONDS:
            # A person who presses Ctrl-C again wants to end now. Clusters send their signals several
            # times, and SIGKILL in the end.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if not self.signal:  # the first tells why
            self.signal, self._since = number, now

    def record_duration(self, what: Literal["step", "batch", "save"], seconds: float) -> None:
        """Note how long something took; the longest counts."""
        self._longest_s[what] = max(self._longest_s[what], seconds)

    def margin_s(self, context: DistributedContext) -> float:
        """Seconds ahead of the deadline at which to stop."""
        unit = max(self._longest_s["step"] * self._steps(context), self._longest_s["batch"])
        return 2 * unit + 2 * self._longest_s["save"] + SAFETY_MARGIN_S

    def _steps(self, context: DistributedContext) -> int:
        """Steps between two checks, with several ranks."""
        if context.size == 1:
            return 1
        return max(1, min(_AGREE_STEPS, math.floor(AGREE_INTERVAL_S / max(self._longest_s["step"], 1e-9))))

    def is_check_due(self, step: int) -> bool:
        """Whether the ranks check the flag after this step."""
        return step >= self._next_check

    def agreed_signal(self, context: DistributedContext, step: int | None = None) -> int:
        """The signal that any rank got, on every rank alike; 0 if none did. Every rank calls this.

        Args:
            step: steps done; the next check is counted from there.
        """
        ours = context.is_main and self.deadline is not None and not self.signal
        if ours and time.time() + self.margin_s(context) >= (self.deadline or 0.0):
            self.signal = signal.SIGUSR2
        if context.size == 1:
            return self.signal
        # A maximum of each: two ranks with different signals still stop by one and the same.
        steps = self._steps(context) if context.is_main else 0
        number, steps = context.maximum(torch.tensor([self.signal, steps])).tolist()
        if step is not None:
            self._next_check = step + steps
        return number


@contextmanager
def stop_flag(deadline: float | None = None) -> Iterator[StopFlag]:
    """Catch SIGINT, SIGTERM and SIGUSR2 in this block. The handlers do nothing but set the flag."""
    flag = StopFlag(deadline)
    with signals_handled(STOPPING, flag.set):
        yield flag
