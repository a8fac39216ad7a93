"""The rows of a run, tokenised, and the sampler that draws its batches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hyperformer.data.answers import notes
from hyperformer.data.dataset import CACHE as CACHE
from hyperformer.data.dataset import TokenizedSplit, tokenize_split
from hyperformer.data.sampler import ReferenceSampler, TaskSampler
from hyperformer.data.splits import load_split
from hyperformer.data.tasks import Task
from hyperformer.run_files.watchdog import PATIENT, beat
from hyperformer.settings.schema import RunConfig
from hyperformer.training.distributed import DistributedContext
from hyperformer.training.engine import Batch
from hyperformer.training.log import say


@dataclass(frozen=True)
class RunData:
    """The rows of a run: for each split, task name -> tokenised rows."""

    tasks: dict[str, Task]
    train: dict[str, TokenizedSplit]
    validation: dict[str, TokenizedSplit]
    test: dict[str, TokenizedSplit]
    tokenizer: Any


class Sampler(Protocol):
    """Draws a step's global batch of one task; its exact position can be saved and restored."""

    def next_batch(self) -> tuple[str, np.ndarray]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def load_run_data(
    config: RunConfig, tasks: dict[str, Task], tokenizer: Any, context: DistributedContext
) -> RunData:
    """Load, split and tokenise. Rank 0 comes first; the others find its tokenised rows in the cache.

    Raises:
        DataError: rows are missing, or are not what a task needs.
    """

    def load() -> RunData:
        return _load(config, tasks, tokenizer, context.is_main)

    if not context.is_main:
        beat("waiting for rank 0 to tokenise", math.inf)
    first = context.on_each(lambda: load() if context.is_main else None)
    return context.on_each(lambda: first or load())


def _load(config: RunConfig, tasks: dict[str, Task], tokenizer: Any, report: bool) -> RunData:
    settings = config.data
    wanted = {"train": True, "validation": config.validates, "test": config.training.do_test}
    splits: dict[str, dict[str, TokenizedSplit]] = {split: {} for split in wanted}
    for split, tokenized in splits.items():
        for name, task in tasks.items() if wanted[split] else ():
            beat(f"loading {name} {split}", PATIENT)
            examples = load_split(task, split, settings, prefix=config.task_prefix)
            tokenized[name] = tokenize_split(examples, task, tokenizer, settings)
    if report:
        for name, task in tasks.items():
            rows = {split: tokenized[name] for split, tokenized in splits.items() if name in tokenized}
            for note in notes(task, rows, tokenizer, settings):
                say(f"{name}: {note}")
    return RunData(tasks, **splits, tokenizer=tokenizer)


def make_sampler(config: RunConfig, data: RunData, batch: Batch) -> Sampler:
    """The run's sampler of global batches: one stream for any number of ranks."""
    sizes = {task: len(rows) for task, rows in data.train.items()}
    if config.data.reference_sampler:
        return ReferenceSampler(
            sizes,
            batch.global_batch_size // batch.ranks_at_first,
            temperature=config.data.temperature,
            num_replicas=batch.ranks_at_first,
        )
    return TaskSampler(sizes, batch.global_batch_size, temperature=config.data.temperature, seed=config.seed)
