"""Too little memory: how it is recognised, and evaluations that then take fewer rows per forward."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from hyperformer.errors import EvaluationOutOfMemory

T = TypeVar("T")
_WORDS = re.compile(r"out of memory|DefaultCPUAllocator: (can't|not enough)|CUBLAS_STATUS_ALLOC_FAILED", re.I)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device, or the host, has too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _WORDS.search(str(error)) is not None


def free_memory() -> None:
    """Give back what a failed forward left behind: tensors in reference cycles, and the allocator's cache."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


class RowLimit:
    """How many rows one forward of an evaluation takes: a whole batch, until the memory is too small for that.

    Then the batch is halved, and halved again, for this evaluation and all later ones. The parts keep
    the padding of their batch, so a row's answer does not depend on how its batch is divided.

    Args:
        tell: called with a line about each halving.
        in_place: whether a forward can be repeated. With partitioned parameters (ZeRO stage 3) it cannot:
            they are in flight, and other ranks wait for this one. Then the next attempt takes fewer rows.

    Attributes:
        rows: the most that a forward takes.
    """

    def __init__(self, tell: Callable[[str], None] = _warn, *, in_place: bool = True) -> None:
        self.tell, self.in_place, self.rows = tell, in_place, sys.maxsize

    def answer(
        self, batch: Mapping[str, Tensor], answer: Callable[[Mapping[str, Tensor]], list[T]]
    ) -> list[T]:
        """What `answer` returns for each row of a batch.

        Args:
            batch: tensors with a row per example.

        Raises:
            EvaluationOutOfMemory: the memory does not even hold one row, or the forward cannot be repeated here.
        """
        total, done = _count(batch), list[T]()
        while len(done) < total:
            rows = slice(len(done), len(done) + self.rows)
            part = {name: tensor[rows] for name, tensor in batch.items()}
            found = self._try(part, answer)
            if found is None:
                # Not in the handler of the error, whose traceback holds the tensors of the failed forward.
                free_memory()
                self.tell(
                    f"out of memory in an evaluation: {self.rows} rows per forward from now on instead of "
                    f"{_count(part)}; the answers stay the same"
                )
            else:
                done += found
        return done

    def _try(
        self, part: Mapping[str, Tensor], answer: Callable[[Mapping[str, Tensor]], list[T]]
    ) -> list[T] | None:
        """The answers; None if the memory is too small for these rows, and the limit is lower now."""
        try:
            return answer(part)
        except Exception as error:
            rows = _count(part)
            if not is_out_of_memory(error):
                raise
            if rows == 1 or not self.in_place:
                raise EvaluationOutOfMemory(str(error)) from error
            self.rows = -(-rows // 2)
        return None


def _count(batch: Mapping[str, Tensor]) -> int:
    return len(next(iter(batch.values())))
