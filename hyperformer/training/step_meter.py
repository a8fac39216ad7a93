"""How fast a run trains, and in how much memory, without a wait for the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from hyperformer.training.memory.memory_use import peak_memory

MEASURED = ("tokens_per_second", "data_seconds", "peak_memory_bytes", "padding_share")
"""What :meth:`StepMeter.values` has. It differs between two runs that are equal in all else."""


class StepMeter:
    """Measures the steps since the last log line. Evaluations and saves do not count."""

    def __init__(self) -> None:
        self.new_line()

    def new_line(self) -> None:
        """Count from here."""
        self._seconds, self._data_seconds, self._steps = 0.0, 0.0, 0
        self._tokens, self._padded = 0, 0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one optimizer step."""
        started = time.monotonic()
        yield
        self._seconds += time.monotonic() - started
        self._steps += 1

    @contextmanager
    def data(self) -> Iterator[None]:
        """Time the making of a micro-batch, within a step."""
        started = time.monotonic()
        yield
        self._data_seconds += time.monotonic() - started

    def count(self, lengths: np.ndarray) -> None:
        """Count the tokens of a global batch's sources, or of its targets.

        Args:
            lengths: shape (micro-batches of all ranks, rows of each).
        """
        self._tokens += int(lengths.sum())
        self._padded += int(lengths.max(axis=1).sum()) * lengths.shape[1]

    def values(self) -> dict[str, float]:
        """Means since the last line, of this rank: tokens per second of all ranks, seconds per step for data.

        The memory is the most that was held since the process began, in bytes. The padding's share is that of all
        positions, sources and targets, of all ranks; tokens are counted without it.
        """
        return {
            "tokens_per_second": round(self._tokens / max(self._seconds, 1e-9), 1),
            "data_seconds": round(self._data_seconds / max(self._steps, 1), 6),
            "peak_memory_bytes": peak_memory(),
            "padding_share": round(1 - self._tokens / max(self._padded, 1), 4),
        }
