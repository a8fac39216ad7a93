"""A model's answers, generated or chosen among a task's labels, and their metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyperformer.answers.answers import Answer, Answers, make_answers
from hyperformer.answers.files import is_intact, write_answers
from hyperformer.data.collate import collate
from hyperformer.data.dataset import TokenizedSplit
from hyperformer.data.label_checks import decode
from hyperformer.data.sampling.by_length import packed_batches
from hyperformer.data.tasks import Task, answer_length
from hyperformer.disk_space import explain_disk_full
from hyperformer.settings.schema import EVAL_ROWS
from hyperformer.training.decoding.constrained import generate_labels
from hyperformer.training.decoding.rank_classification import best_labels, check_decode, trees_of_labels
from hyperformer.training.memory.out_of_memory import RowLimit
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.train_state import Metrics

SCORES_PER_TOKEN = 2_048
"""Scores over the vocabulary that take at most the memory of a token of a source: its keys and values in all layers."""


@dataclass(frozen=True)
class Decoding:
    """How answers are made.

    Attributes:
        method: 'generate'; 'constrained', to the task's labels; or 'rank' among them.
        synced_gpus: generate until every rank has its answers: with partitioned parameters (ZeRO stage 3)
            each forward needs all ranks.
    """

    method: str = "generate"
    synced_gpus: bool = False


@torch.no_grad()
def answer(
    model: Any, task: Task, tokenizer: Any, batch: Mapping[str, Tensor], decoding: Decoding
) -> list[Answer]:
    """The model's answers to one batch of one task.

    Args:
        batch: input_ids and attention_mask, each (B, S).

    Raises:
        ConfigError: labels are asked for, and the task has none.
    """
    check_decode([task], decoding.method)
    input_ids, attention_mask = batch["input_ids"], batch["attention_mask"]
    if decoding.method == "rank":
        return best_labels(model, task, tokenizer, input_ids, attention_mask)
    generate = partial(
        model.generate,
        input_ids=input_ids,
        attention_mask=attention_mask,
        task=task.name,
        num_beams=task.num_beams,
        do_sample=False,
        # The tokens that the training targets end with and are padded with.
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        synced_gpus=decoding.synced_gpus,
    )
    if decoding.method == "constrained":
        return generate_labels(task, tokenizer, input_ids.device, generate)
    # As the authors: room for the longest label, the start token included.
    answers = generate(max_length=answer_length(task, tokenizer))
    return [Answer(text.strip(), text) for text in decode(tokenizer, answers)]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation of one split found, on every rank.

    Attributes:
        metrics: in percent, task -> metric -> value; those of rank 0.
        answers: task -> the answers to its rows.
    """

    metrics: Metrics
    answers: dict[str, Answers]


@dataclass(frozen=True)
class Tested:
    """What a run's last evaluation found.

    Attributes:
        metrics: of the test splits, in percent: task -> metric -> value.
        answers: split -> task -> its file, as result.json lists it.
    """

    metrics: Metrics
    answers: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model on the rows of several ranks. Every rank calls every method.

    Attributes:
        batch_size: rows per device at most; None: on a CPU 32, else as many as need the memory of 32 of the longest.
        after_batch: called with the seconds that each batch took, equally often on every rank.
            What it raises ends the evaluation.
        limit: rows per forward, if the memory is too small for a batch at once.
    """

    model: Any
    tokenizer: Any
    context: DistributedContext
    batch_size: int | None
    decoding: Decoding = Decoding()
    after_batch: Callable[[float], None] = lambda seconds: None
    limit: RowLimit = field(default_factory=RowLimit)

    def evaluate(
        self, tasks: Mapping[str, Task], name: str, splits: Mapping[str, TokenizedSplit]
    ) -> Evaluation:
        """Answer one split of every task, and score the answers. The ranks wait for each other once, at the end.

        Args:
            name: of the split.
            splits: task -> its rows.
        """
        found = self._of_all_ranks({task: self._mine(tasks[task], split) for task, split in splits.items()})
        answers = {
            task: make_answers(
                tasks[task],
                name,
                found[task],
                list(split.target_texts),
                list(split.row_hashes),
                list(split.references),
            )
            for task, split in splits.items()
        }
        metrics = {task: columns.metrics() for task, columns in answers.items()}
        # Two kinds of CPU may round differently, and the metrics decide what all ranks do next.
        return Evaluation(self.context.broadcast_from_main(metrics), answers)

    def answers(self, task: Task, split: TokenizedSplit) -> list[Answer]:
        """The model's answer to each row of `split`, in the rows' order, on every rank."""
        return self._of_all_ranks({task.name: self._mine(task, split)})[task.name]

    def _mine(self, task: Task, split: TokenizedSplit) -> dict[int, Answer]:
        """Row -> its answer, of this rank's rows."""
        was_training = self.model.training
        self.model.eval()
        mine: dict[int, Answer] = {}
        try:
            for of_ranks in self.batches(task, split):
                rows, started = of_ranks[self.context.rank], time.monotonic()
                batch = collate(split, rows, pad_token_id=self.tokenizer.pad_token_id)
                batch = {name: tensor.to(self.context.device) for name, tensor in batch.items()}
                answers = self.limit.answer(
                    batch, lambda part: answer(self.model, task, self.tokenizer, part, self.decoding)
                )
                mine.update(zip(rows.tolist(), answers, strict=True))
                self.after_batch(time.monotonic() - started)
        finally:
            self.model.train(was_training)
        return mine

    def _of_all_ranks(self, mine: dict[str, dict[int, Answer]]) -> dict[str, list[Answer]]:
        """Task -> all answers in the rows' order."""
        everyone: dict[str, dict[int, Answer]] = {task: {} for task in mine}
        for part, most in self.context.gather((mine, self.limit.rows)):
            for task, answers in part.items():
                everyone[task].update(answers)
            self.limit.rows = min(self.limit.rows, most)
        return {task: [answers[row] for row in sorted(answers)] for task, answers in everyone.items()}

    def batches(self, task: Task, split: TokenizedSplit) -> list[np.ndarray]:
        """Batches of row numbers, shape (ranks, rows): rows of like length together, the longest first.

        Every rank gets the same number of batches: with partitioned parameters all ranks must take part.
        """
        length = answer_length(task, self.tokenizer)
        trees = trees_of_labels(self.model, task, self.tokenizer) if self.decoding.method == "rank" else ()
        scored = max((len(tree.tokens) for tree in trees), default=1)
        more = length + math.ceil(scored * self.model.config.vocab_size / SCORES_PER_TOKEN)
        # Larger batches of short rows fill a GPU. A CPU is full with 32, which pad less (mrpc: by 2%).
        most = self.batch_size or (EVAL_ROWS if self.context.device.type == "cpu" else None)
        return packed_batches(split.source_ids.lengths(), self.context.size, most, more)


def keep_answers(found: Evaluation, folder: Path, context: DistributedContext) -> dict[str, Any]:
    """Write the answers into `folder`, on rank 0; returns task -> its file, as result.json lists it, on every rank.

    Raises:
        DiskFull, CheckpointError: a file could not be written.
    """

    def write() -> dict[str, Any]:
        with explain_disk_full(folder):
            return {task: write_answers(folder, answers) for task, answers in found.answers.items()}

    return context.on_main(write)


def are_kept(
    files: Mapping[str, Any], tasks: Collection[str], folder: Path, context: DistributedContext
) -> bool:
    """Whether the answers of all these tasks are there as they were written, as rank 0 sees it.

    Args:
        files: what :func:`keep_answers` returned.
    """
    return context.on_main(
        lambda: files.keys() == set(tasks) and all(is_intact(folder, file) for file in files.values())
    )
