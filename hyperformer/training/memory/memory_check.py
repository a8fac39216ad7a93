"""Before the first step, what takes the most memory is done once: too little memory shows in the first minute.

The longest rows of all tasks go forward and backward, and two batches of evaluation are answered and scored.
Nothing of it stays. The gradients are made beside the parameters, so that the engine does not see them,
and the random states are restored: a run ends bit-identical with and without the check.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from hyperformer.data.dataset import TokenizedSplit
from hyperformer.data.tasks import Task
from hyperformer.run_files.watchdog import PATIENT, beat
from hyperformer.training.log import RunLog, say
from hyperformer.training.memory.memory_use import missing_moments, peak_memory
from hyperformer.training.optimization.loss import batch_loss
from hyperformer.training.train_state import random_states, set_random_states

if TYPE_CHECKING:
    from hyperformer.training.loop import Trainer

# Batches of evaluation that are tried.
_BATCHES = 2


def check_memory(trainer: Trainer, log: RunLog) -> None:
    """Try the longest rows, if the settings want it and a step follows. Every rank calls this.

    Raises:
        what the device raises if its memory is too small for a micro-batch; on every rank, unless the
            parameters are partitioned (ZeRO stage 3). An evaluation takes fewer rows instead.
    """
    settings, context = trainer.config.training, trainer.context
    wanted = context.device.type == "cuda" if settings.memory_check is None else settings.memory_check
    if not wanted or trainer.state.is_over(settings):
        return
    started = time.monotonic()
    beat("the memory check", PATIENT)
    with _random_states_kept():
        context.on_each(lambda: _train(trainer))
        _evaluate(trainer)
    log.evaluation_rows(trainer.limit.rows)
    if context.is_main:
        seconds, peak = time.monotonic() - started, peak_memory() / 2**30
        say(f"memory check: the longest rows fit, peak {peak:.1f} GiB; it took {seconds:.1f} s")


@contextmanager
def _random_states_kept() -> Iterator[None]:
    before = random_states()
    try:
        yield
    finally:
        set_random_states(before)


def _train(trainer: Trainer) -> None:
    """Forward and backward of a micro-batch of each of the longest rows."""
    model, device = trainer.engine.module, trainer.context.device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    moments = torch.empty(missing_moments(trainer.engine, device), dtype=torch.uint8, device=device)
    model.train()
    for task, row in longest_rows(trainer.data.train):
        batch = trainer.data.training_batch({task: np.repeat(row, trainer.batch.micro)}, device)
        loss = batch_loss(model, batch, _tasks(trainer, task), trainer.config.training.label_smoothing)
        torch.autograd.grad(loss, trained, allow_unused=True)
    del moments


def _tasks(trainer: Trainer, task: str) -> str | list[str]:
    """The task of a batch; where a batch has several, of its rows: as many as it can have, since each has adapters."""
    if trainer.config.data.batching == "task":
        return task
    names = list(trainer.data.train)
    return sorted((names[row % len(names)] for row in range(trainer.batch.micro)), key=names.index)


def longest_rows(splits: Mapping[str, TokenizedSplit]) -> list[tuple[str, int]]:
    """(task, row) of the rows that take the most memory, among all tasks.

    They have the longest source, the longest target, and the most tokens; a row that is no longer than
    another of them in either is left out. A batch that holds such a row is at least as long as the row.
    """
    found: dict[tuple[int, int], tuple[str, int]] = {}
    for task, split in splits.items():
        source, target = split.source_ids.lengths(), split.target_ids.lengths()
        for first, second in ((source, target), (target, source), (source + target, target)):
            row = int(np.lexsort((second, first))[-1])
            found.setdefault((int(source[row]), int(target[row])), (task, row))
    return [
        place
        for (source, target), place in found.items()
        if not any(source <= other[0] and target <= other[1] for other in found.keys() - {(source, target)})
    ]


def _evaluate(trainer: Trainer) -> None:
    """Answer and score the longest batches of evaluation."""

    def after_batch(_seconds: float) -> None:
        beat("the memory check", PATIENT)

    for task, split in _heaviest(trainer)[:_BATCHES]:
        evaluator = trainer.evaluator(after_batch)
        longest = evaluator.batches(task, split)[0].ravel()
        evaluator.evaluate({task.name: task}, "memory check", {task.name: split.subset(longest)})


def _heaviest(trainer: Trainer) -> list[tuple[Task, TokenizedSplit]]:
    """Tasks and splits that are evaluated; those whose longest batch takes the most memory come first."""

    def weight(item: tuple[Task, TokenizedSplit]) -> int:
        task, split = item
        is_ranked = trainer.config.training.decode == "rank"
        answers = len(task.labels or ()) if is_ranked else task.num_beams
        return answers * int(split.source_ids.lengths().max())

    data = trainer.data
    items = [
        (data.tasks[name], split) for part in (data.validation, data.test) for name, split in part.items()
    ]
    return sorted(items, key=weight, reverse=True)
