"""Which task, and which of its rows, make the next batch.

A batch holds rows of one task, the same task on every rank (of several: :mod:`hyperformer.data.sampling.mixed`).
How often a task is drawn says :class:`Mixing`. Both samplers draw the global batch of all ranks. Every rank draws the
same global batch and takes its share of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperformer.data.sampling.by_length import group_by_length
from hyperformer.data.sampling.drawn import Drawn
from hyperformer.data.sampling.mixing import Mixing
from hyperformer.errors import CheckpointError, ConfigError, DataError

BLOCK = 1_024
"""Tasks drawn at a time."""


class TaskSampler:
    """An endless stream of batches. A few numbers give its exact position.

    Rows of a task are drawn without replacement, in a new seeded order in each epoch of the
    task; a batch may span two epochs. The order depends on the seed and the task's name
    only: not on the batch size, the ranks or the other tasks.

    Args:
        sizes: training rows of each task.
        batch_size: rows of the global batch: all ranks and all accumulation steps.
        mixing: how often each task is drawn.
        lengths: of the rows of each task, to make batches of like length, as :func:`group_by_length` takes them.
            The order then depends on the batch size too. None: batches of random rows.
    """

    kind = "tasks"

    def __init__(
        self,
        sizes: dict[str, int],
        batch_size: int,
        *,
        mixing: Mixing,
        seed: int,
        lengths: Mapping[str, Sequence[np.ndarray]] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; write 1 or more")
        self.sizes, self.batch_size = dict(sizes), batch_size
        self.mixing, self.seed, self.lengths = mixing, seed, lengths
        self.distribution = mixing.distribution(sizes)
        self._batches = 0
        self._rows = dict.fromkeys(sizes, 0)  # taken of each task, over all passes
        self._block: tuple[int, np.ndarray] | None = None
        self._orders: dict[str, tuple[int, np.ndarray]] = {}

    def next_batch(self) -> Drawn:
        """`batch_size` rows of one task."""
        task = list(self.sizes)[int(self._tasks(self._batches, self._batches + 1)[0])]
        self._batches += 1
        return Drawn(task, self._next(task, self.batch_size))

    @property
    def drawn(self) -> dict[str, int]:
        """Rows taken of each task so far."""
        return dict(self._rows)

    def _tasks(self, start: int, stop: int) -> np.ndarray:
        """The numbers of the tasks that draws number `start` to `stop` gave."""
        return _slice(self._block_of_tasks, BLOCK, start, stop)

    def _block_of_tasks(self, block: int) -> np.ndarray:
        if self._block is None or self._block[0] != block:
            rng = np.random.default_rng([self.seed, 0, block])
            self._block = (block, rng.choice(len(self.sizes), size=BLOCK, p=self.distribution))
        return self._block[1]

    def _next(self, task: str, count: int) -> np.ndarray:
        """The next rows of a task's stream."""
        start = self._rows[task]
        self._rows[task] += count
        return _slice(lambda number: self._order(task, number), self.sizes[task], start, start + count)

    def _order(self, task: str, number: int) -> np.ndarray:
        if self._orders.get(task, (None,))[0] != number:
            rng = np.random.default_rng([self.seed, 1, zlib.crc32(task.encode()), number])
            order = rng.permutation(self.sizes[task])
            if self.lengths is not None:
                first = -number * len(order) % self.batch_size
                order = group_by_length(order, self.lengths[task], self.batch_size, first, rng)
            self._orders[task] = (number, order)
        return self._orders[task][1]

    def state_dict(self) -> dict[str, Any]:
        """The position in every task's stream, and what defines the streams. Plain JSON."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            **self.mixing.state(),
            "sizes": dict(self.sizes),
            "batches": self._batches,
            "rows": dict(self._rows),
            **({} if self.lengths is None else {"group_by_length": self.batch_size}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a position. The batch size may differ from the one before, unless batches have like length.

        Raises:
            CheckpointError: the state belongs to other streams.
        """
        same = ("kind", "seed", "temperature", "mixing", "sizes", "group_by_length")
        _check_same(state, self.state_dict(), same)
        self._batches, self._rows = int(state["batches"]), dict(state["rows"])


class ReferenceSampler:
    """The authors' draws, bit-identical (torch's random numbers), for all ranks at once.

    In every epoch each task's rows are permuted and dealt to the ranks. The tasks of all
    batches are drawn. Then, for each batch, rows of the rank's share are drawn with
    replacement. Every rank draws the same positions in its own share. An epoch has as many
    batches as the rows of all tasks fill. The authors' seed is 0, whatever the run's seed is.

    Args:
        sizes: training rows of each task, in order.
        batch_size: rows of one rank.
        num_replicas: ranks.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        batch_size: int,
        *,
        temperature: float,
        num_replicas: int = 1,
        seed: int = 0,
    ) -> None:
        self.sizes, self.batch_size, self.num_replicas = dict(sizes), batch_size, num_replicas
        self.temperature, self.seed = temperature, seed
        self.distribution = Mixing(temperature=temperature).distribution(sizes)
        self.batches_per_epoch = -(-sum(sizes.values()) // batch_size) // num_replicas
        if self.batches_per_epoch < 1:
            raise ConfigError(
                f"reference_sampler: {sum(sizes.values())} rows make fewer batches of {batch_size} than "
                f"there are ranks ({num_replicas}); take fewer ranks or smaller batches"
            )
        for task, size in sizes.items():
            if size < num_replicas:
                raise DataError(
                    f"reference_sampler: task {task!r} has {size} rows for {num_replicas} ranks; "
                    "take fewer ranks"
                )
        self._epoch = self._position = 0
        self._of_earlier_epochs = np.zeros(len(sizes), dtype=int)
        self._start_epoch()

    def __len__(self) -> int:
        return self.batches_per_epoch

    @property
    def drawn(self) -> dict[str, int]:
        """Rows taken of each task so far, of all ranks."""
        batches = self._of_earlier_epochs + self._count(self._tasks[: self._position])
        return {
            task: int(count) * self.batch_size * self.num_replicas
            for task, count in zip(self.sizes, batches, strict=True)
        }

    def _count(self, tasks: list[int]) -> np.ndarray:
        return np.bincount(np.array(tasks, dtype=int), minlength=len(self.sizes))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        if epoch <= self._epoch:
            self._of_earlier_epochs[:] = self._epoch = 0
            self._start_epoch()
        while self._epoch < epoch:
            self._of_earlier_epochs += self._count(self._tasks)
            self._epoch += 1
            self._start_epoch()
        self._position = 0

    def _start_epoch(self) -> None:
        import torch

        self._generator = torch.Generator().manual_seed(self.seed + self._epoch)
        self._orders = [
            torch.randperm(size, generator=self._generator).numpy() for size in self.sizes.values()
        ]
        weights = torch.from_numpy(self.distribution)
        draw = torch.multinomial(weights, self.batches_per_epoch, replacement=True, generator=self._generator)
        self._tasks = draw.tolist()

    def _positions(self) -> tuple[int, np.ndarray]:
        """The next batch's task and the positions in each rank's share."""
        import torch

        number = self._tasks[self._position]
        self._position += 1
        share = list(self.sizes.values())[number] // self.num_replicas
        return number, torch.randint(share, (self.batch_size,), generator=self._generator).numpy()

    def next_batch(self) -> Drawn:
        """`num_replicas * batch_size` rows of one task, rank by rank."""
        if self._position == self.batches_per_epoch:
            self.set_epoch(self._epoch + 1)
        number, positions = self._positions()
        # Rank r owns rows r, r + ranks, r + 2 ranks, ... of the permuted task.
        dealt = np.concatenate([rank + self.num_replicas * positions for rank in range(self.num_replicas)])
        return Drawn(list(self.sizes)[number], self._orders[number][dealt])

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream, and what defines the stream. Plain JSON."""
        return {
            "kind": "reference",
            "seed": self.seed,
            "temperature": self.temperature,
            "sizes": dict(self.sizes),
            "batch_size": self.batch_size,
            "num_replicas": self.num_replicas,
            "epoch": self._epoch,
            "position": self._position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a position.

        Raises:
            CheckpointError: the state belongs to another stream.
        """
        same = ("kind", "seed", "temperature", "sizes", "batch_size", "num_replicas")
        _check_same(state, self.state_dict(), same)
        self.set_epoch(int(state["epoch"]))
        for _ in range(int(state["position"])):
            self._positions()


def _slice(piece: Callable[[int], np.ndarray], size: int, start: int, stop: int) -> np.ndarray:
    """Elements number `start` to `stop` of an endless stream of pieces, each of `size` elements."""
    found = []
    while start < stop:
        number, offset = divmod(start, size)
        found.append(piece(number)[offset : offset + stop - start])
        start += len(found[-1])
    return np.concatenate(found)


def _check_same(saved: Mapping[str, Any], now: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        if saved.get(key) != now.get(key):
            raise CheckpointError(
                f"The checkpoint's position in the data does not fit this run: {key} was {saved.get(key)!r}, "
                f"and is now {now.get(key)!r}; start it with the same data and settings, or in a new folder"
            )
