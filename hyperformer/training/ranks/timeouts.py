"""How long ranks wait for each other, and the error when another rank does not come.

Until the first step is done, rank 0 may download, tokenise and verify for hours while the
others wait. After that, a rank that is not there within minutes hangs. So the timeouts of
the process groups have two phases. Both are settings (:class:`~hyperformer.settings.schema.TrainingConfig`):
``start_timeout_minutes`` and ``step_timeout_minutes``.

The watchdog of each rank (:mod:`hyperformer.run_files.watchdog`) comes first: it knows what its rank
was doing. The timeouts find what it cannot find: a process that is stopped, a node that is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hyperformer.errors import Hang
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.schema import TrainingConfig

# Of the timeout after the first step, where neither it nor hang_minutes says anything.
_STEP_MINUTES = 45.0
# What gloo and NCCL say of a collective that took too long, and of a rank that has ended.
_TIMED_OUT = re.compile(
    r"Timed out waiting \d+ms|failed to pass monitoredBarrier|collective operation timeout"
)
_LOST = re.compile(r"Connection (closed|reset) by peer|Broken pipe|remote process exited|ncclRemoteError")


@dataclass(frozen=True)
class Timeouts:
    """Of the two phases.

    Attributes:
        start: until the first step is done.
        step: after that, in a step; a save may take :data:`PATIENT` times as long.
    """

    start: timedelta
    step: timedelta

    @classmethod
    def of(cls, config: TrainingConfig) -> Timeouts:
        step = config.step_timeout_minutes or 1.5 * config.hang_minutes or _STEP_MINUTES
        return cls(timedelta(minutes=config.start_timeout_minutes), timedelta(minutes=step))


def set_timeouts(timeout: timedelta, bookkeeping: Any, its_timeout: timedelta) -> None:
    """Set the timeout of every process group of this process: DeepSpeed makes some of its own.

    Args:
        bookkeeping: the one group that gets `its_timeout`.
    """
    # torch offers this by no public name; a test holds that it works.
    from torch.distributed.distributed_c10d import _set_pg_timeout, _world

    for group in list(_world.pg_map):
        _set_pg_timeout(its_timeout if group is bookkeeping else timeout, group)


@contextmanager
def explain_hangs(folder: RunFolder, rank: int) -> Iterator[None]:
    """In this block, an error of a collective because another rank hangs becomes one that says so.

    Raises:
        Hang: a collective timed out, or lost a rank whose watchdog has ended it.
    """
    try:
        yield
    except RuntimeError as error:  # of gloo, or one of torch.distributed's own, which are RuntimeErrors too
        text = _hang_behind(str(error), folder, rank)
        if text is None:
            raise
        raise Hang(text) from error


def _hang_behind(message: str, folder: RunFolder, rank: int) -> str | None:
    if _TIMED_OUT.search(message):
        return (
            f"rank {rank} waited in vain for another rank, which hangs or is cut off ({message}). If it was only "
            "slow, raise start_timeout_minutes (before the first step is done) or step_timeout_minutes"
        )
    if _LOST.search(message):
        with suppress(Exception):  # state.json may be damaged; then the error itself is raised
            state = folder.read_state()
            if state and state.phase == "failed" and (state.error or "").startswith("Hang: "):
                return (state.error or "").removeprefix("Hang: ")
    return None
