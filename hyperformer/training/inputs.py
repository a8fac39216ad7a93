"""The rows of a run, tokenised, and the sampler that draws its batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import torch

from hyperformer.data.collate import collate_rows
from hyperformer.data.dataset import TokenizedSplit, load_tokenized
from hyperformer.data.label_checks import notes
from hyperformer.data.sampling.drawn import Drawn
from hyperformer.data.sampling.mixed import MixedSampler
from hyperformer.data.sampling.mixing import Mixing
from hyperformer.data.sampling.sampler import ReferenceSampler, TaskSampler
from hyperformer.data.tasks import SPLITS, Task
from hyperformer.run_files.watchdog import PATIENT, beat
from hyperformer.settings.checks import check_schedule
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.signature import signature
from hyperformer.training.deepspeed_config.batch import Batch
from hyperformer.training.log import say
from hyperformer.training.ranks.distributed import DistributedContext


@dataclass(frozen=True)
class RunData:
    """The rows of a run: for each split, task name -> tokenised rows."""

    tasks: dict[str, Task]
    train: dict[str, TokenizedSplit]
    validation: dict[str, TokenizedSplit]
    test: dict[str, TokenizedSplit]
    tokenizer: Any

    def training_batch(self, rows: dict[str, np.ndarray], device: torch.device) -> dict[str, torch.Tensor]:
        """Some training rows of each of some tasks, one task after another, padded, on the device."""
        parts = [(self.train[task], indices) for task, indices in rows.items()]
        sources = [source for split, indices in parts for source in split.sources(indices)]
        targets = [target for split, indices in parts for target in split.targets(indices)]
        batch = collate_rows(sources, targets, pad_token_id=self.tokenizer.pad_token_id)
        return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}

    def lengths(self, drawn: Drawn) -> np.ndarray:
        """The tokens of the sources and of the targets of drawn rows, in their order: int64, shape (2, rows)."""
        if isinstance(drawn.task, str):
            return _lengths(self.train[drawn.task], drawn.rows)
        found = np.empty((2, len(drawn.rows)), dtype=np.int64)
        for number, split in enumerate(self.train.values()):
            mine = drawn.task == number
            found[:, mine] = _lengths(split, drawn.rows[mine])
        return found


def _lengths(split: TokenizedSplit, rows: np.ndarray) -> np.ndarray:
    return np.stack([split.source_ids.lengths(rows), split.target_ids.lengths(rows)])


def task_of_rows(rows: dict[str, np.ndarray]) -> str | list[str]:
    """The task of a batch; or of each of its rows, which are ordered by task."""
    if len(rows) == 1:
        return next(iter(rows))
    return [task for task, indices in rows.items() for _ in indices]


class Sampler(Protocol):
    """Draws a step's global batch; its exact position can be saved and restored.

    Attributes:
        sizes: training rows of each task.
        distribution: probability of each task.
        drawn: rows taken of each task so far.
    """

    sizes: dict[str, int]
    distribution: np.ndarray

    @property
    def drawn(self) -> dict[str, int]: ...
    def next_batch(self) -> Drawn: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def load_run_data(
    config: RunConfig, tasks: dict[str, Task], tokenizer: Any, context: DistributedContext
) -> RunData:
    """Load, split and tokenise. Each task is first one rank's; the others then find its tokenised rows in the cache.

    Raises:
        DataError: rows are missing, or are not what a task needs.
    """
    names = list(tasks)
    mine = names[context.rank :: context.size]

    def load(chosen: list[str]) -> dict[str, dict[str, TokenizedSplit]]:
        return {name: _load(config, tasks[name], tokenizer) for name in chosen}

    found = context.on_each(lambda: load(mine))
    found |= context.on_each(lambda: load([name for name in names if name not in mine]))
    if context.is_main:
        for name in names:
            for note in notes(tasks[name], found[name], tokenizer, config.data):
                say(f"{name}: {note}")
    by_split = {
        split: {name: found[name][split] for name in names if split in found[name]} for split in SPLITS
    }
    return RunData(tasks, **by_split, tokenizer=tokenizer)


def _load(config: RunConfig, task: Task, tokenizer: Any) -> dict[str, TokenizedSplit]:
    """The splits of one task that the run reads."""
    tokenized = {}
    for split in config.splits:
        beat(f"loading {task.name} {split}", PATIENT)
        tokenized[split] = load_tokenized(task, split, tokenizer, config.data, prefix=config.task_prefix)
    return tokenized


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
    lengths = {
        task: (rows.source_ids.lengths(), rows.target_ids.lengths()) for task, rows in data.train.items()
    }
    kind = MixedSampler if config.data.batching == "mixed" else TaskSampler
    return kind(
        sizes,
        batch.global_batch_size,
        mixing=Mixing.of(config.data),
        seed=config.seed,
        lengths=lengths if config.data.group_by_length else None,
    )


def with_steps(config: RunConfig, data: RunData, batch: Batch) -> RunConfig:
    """The config with its steps and warm-up as numbers, now that the rows are known. It is the same run.

    Raises:
        ConfigError: the warm-up is longer than the run.
    """
    training = config.training
    epochs, ratio = training.num_train_epochs, training.warmup_ratio
    if epochs is None and ratio is None:
        return config
    steps, warmup = training.max_steps, training.warmup_steps
    if epochs is not None:  # exact: 1.1 epochs of 100 rows are 110 rows, and no 110.00000000000001
        rows = sum(len(split) for split in data.train.values())
        steps = math.ceil(Fraction(repr(epochs)) * rows / batch.global_batch_size)
    if ratio is not None:
        warmup = math.ceil(Fraction(repr(ratio)) * steps)
    training = replace(
        training, max_steps=steps, warmup_steps=warmup, num_train_epochs=None, warmup_ratio=None
    )
    check_schedule(training)
    return replace(config, training=training, known_as=signature(config))
