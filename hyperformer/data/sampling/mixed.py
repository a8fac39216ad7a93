"""Batches of several tasks: `batching=mixed`."""

from __future__ import annotations

import numpy as np

from hyperformer.data.sampling.drawn import Drawn
from hyperformer.data.sampling.sampler import TaskSampler


class MixedSampler(TaskSampler):
    """Draws a task for each row, where :class:`TaskSampler` draws one for each batch.

    Tasks are drawn as often, and each task's rows come in the same order.
    """

    kind = "rows"

    def next_batch(self) -> Drawn:
        """Rows of several tasks, as they were drawn."""
        start = sum(self._rows.values())
        self._batches += 1
        numbers, rows = self._tasks(start, start + self.batch_size), np.empty(self.batch_size, dtype=np.int64)
        for number, task in enumerate(self.sizes):
            mine = numbers == number
            if mine.any():
                rows[mine] = self._next(task, int(mine.sum()))
        return Drawn(numbers, rows)
