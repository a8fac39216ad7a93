"""Ranks and world size, and what ranks tell each other: the one place that answers that."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from hyperformer.errors import ConfigError
from hyperformer.run_files.watchdog import PATIENT, waiting
from hyperformer.training.ranks.timeouts import Timeouts, set_timeouts

T = TypeVar("T")


@dataclass
class Bookkeeping:
    """The group for what ranks tell each other: gloo beside NCCL, in the host's memory.

    A rank that waits in it for another one holds up no GPU, and NCCL's watchdog sees nothing.

    Attributes:
        group: of torch.distributed, with all ranks.
        timeouts: of this and all other groups.
        has_stepped: whether the first step is done.
    """

    group: Any
    timeouts: Timeouts
    has_stepped: bool = False


@dataclass(frozen=True)
class DistributedContext:
    """This process among the processes of the run. Every rank calls every method, in the same order.

    Attributes:
        size: number of ranks.
        bookkeeping: None if there is one rank.
    """

    rank: int
    local_rank: int
    size: int
    device: torch.device
    bookkeeping: Bookkeeping | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process reads and writes the run's files."""
        return self.rank == 0

    # Timeouts.

    def groups_made(self) -> None:
        """Give all groups the timeout of the start; those that an engine made have torch's own."""
        if self.bookkeeping is not None:
            start = self.bookkeeping.timeouts.start
            set_timeouts(start, self.bookkeeping.group, start)

    def step_done(self) -> None:
        """After the first step, ranks wait for each other no longer than a step can take."""
        mine = self.bookkeeping
        if mine is None or mine.has_stepped:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.barrier()  # a rank that is still in its first step is waited for as long as before
        mine.has_stepped = True
        set_timeouts(mine.timeouts.step, mine.group, PATIENT * mine.timeouts.step)

    @contextmanager
    def _group(self) -> Iterator[Any]:
        """The bookkeeping group, to wait in for the other ranks."""
        assert self.bookkeeping is not None  # there are several ranks
        if self.bookkeeping.has_stepped:
            yield self.bookkeeping.group
            return
        with waiting("the other ranks"):
            yield self.bookkeeping.group

    # What ranks tell each other.

    def barrier(self) -> None:
        if self.size > 1:
            with self._group() as group:
                dist.barrier(group)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of `value` over the ranks, on its device."""
        return self._reduced(value, dist.ReduceOp.SUM)

    def maximum(self, value: torch.Tensor) -> torch.Tensor:
        """The largest `value` of the ranks, element by element, on its device."""
        return self._reduced(value, dist.ReduceOp.MAX)

    def _reduced(self, value: torch.Tensor, operation: Any) -> torch.Tensor:
        if self.size == 1:
            return value
        value = value.clone()
        if value.device.type != "cpu":
            dist.all_reduce(value, op=operation)
            return value
        with self._group() as group:
            dist.all_reduce(value, op=operation, group=group)
        return value

    def gather(self, value: T) -> list[T]:
        """Every rank's `value` (a small picklable object), in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        with self._group() as group:
            dist.all_gather_object(values, value, group=group)
        return values

    def gather_on_main(self, value: T) -> list[T]:
        """Every rank's `value`, in rank order, on rank 0; [] on the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_main else None
        with self._group() as group:
            dist.gather_object(value, values, dst=0, group=group)
        return values or []

    def broadcast_from_main(self, value: T) -> T:
        """Rank 0's `value` (a small picklable object), on every rank."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        with self._group() as group:
            dist.broadcast_object_list(box, group=group)
        return box[0]

    def on_main(self, function: Callable[[], T]) -> T:
        """What `function` returns on rank 0, on every rank; what it raises there, every rank raises.

        So is a file of the run read: by one rank, which tells the others.
        """
        value, error = _outcome(function) if self.is_main else (None, None)
        value, other = self.broadcast_from_main((value, error and _portable(error)))
        if other is not None:
            raise error or other
        return value  # type: ignore[return-value]

    def on_each(self, function: Callable[[], T]) -> T:
        """What `function` returns on this rank; if it raises on any rank, every rank raises.

        So no rank waits for one that has failed.
        """
        value, error = _outcome(function)
        others = [other for other in self.gather(error and _portable(error)) if other is not None]
        if others:
            raise error or others[0]
        return value  # type: ignore[return-value]

    def check_same(self, values: Mapping[str, Any]) -> None:
        """See that every rank has the same values; each rank has read them for itself.

        Raises:
            ConfigError: two ranks differ; raised on every rank.
        """
        first, *others = self.gather(dict(values))
        for rank, other in enumerate(others, 1):
            changed = [name for name in first if other.get(name) != first[name]]
            if changed:
                raise ConfigError(
                    f"rank {rank} and rank 0 of this run differ in {', '.join(changed)}. The ranks of one run need "
                    "the same settings and files on every node. To start several runs by one srun, set RANK=0 "
                    "WORLD_SIZE=1 for each"
                )


def _outcome(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return function(), None
    except Exception as error:
        return None, error


def _portable(error: Exception) -> Exception:
    """The error, or its words if it cannot travel between processes."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
