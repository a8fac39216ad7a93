"""Answers by generation or by rank, and their metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hyperformer.data.collate import collate
from hyperformer.data.dataset import TokenizedSplit
from hyperformer.data.metrics import compute_metrics
from hyperformer.data.tasks import Task, answer_length
from hyperformer.training.distributed import DistributedContext
from hyperformer.training.rank_classification import best_labels


def _batches(split: TokenizedSplit, batch_size: int, context: DistributedContext) -> list[np.ndarray]:
    """This rank's batches of row numbers, rows of like length together.

    Every rank gets the same number of batches, the last row repeated where they
    do not come out even: with partitioned parameters all ranks must go along.
    """
    order = np.argsort(split.source_ids.lengths(), kind="stable")[::-1]
    step = batch_size * context.size
    padded = np.concatenate([order, np.repeat(order[-1:], -len(order) % step)])
    return list(padded.reshape(-1, context.size, batch_size)[:, context.rank])


@torch.no_grad()
def predict(
    model: Any,
    task: Task,
    split: TokenizedSplit,
    tokenizer: Any,
    *,
    batch_size: int,
    context: DistributedContext,
    decode: str = "generate",
    partitioned: bool = False,
    after_batch: Callable[[float], None] | None = None,
) -> list[str]:
    """The model's answer to each row of `split`, in the rows' order, on every rank.

    Args:
        batch_size: rows a device.
        decode: 'generate' or 'rank'.
        partitioned: whether the parameters are spread over the ranks (ZeRO stage 3).
        after_batch: told the seconds that each batch took; every rank calls it as often. What
            it raises ends the evaluation.
    """
    was_training = model.training
    model.eval()
    mine: dict[int, str] = {}
    try:
        for rows in _batches(split, batch_size, context):
            started = time.monotonic()
            batch = collate(split, rows, pad_token_id=tokenizer.pad_token_id)
            texts = answer(
                model,
                task,
                tokenizer,
                batch["input_ids"].to(context.device),
                batch["attention_mask"].to(context.device),
                decode=decode,
                synced_gpus=partitioned and context.size > 1,
            )
            mine.update(zip(rows.tolist(), texts, strict=True))
            if after_batch is not None:
                after_batch(time.monotonic() - started)
    finally:
        model.train(was_training)
    everyone: dict[int, str] = {}
    for part in context.gather(mine):
        everyone.update(part)
    return [everyone[row] for row in range(len(split))]


@torch.no_grad()
def answer(
    model: Any,
    task: Task,
    tokenizer: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    decode: str = "generate",
    synced_gpus: bool = False,
) -> list[str]:
    """The model's answers to one batch of one task.

    Args:
        input_ids, attention_mask: (B, S).
        decode: 'generate' or 'rank'.
        synced_gpus: go on until every rank has its answers.

    Raises:
        ConfigError: 'rank' for a task without labels.
    """
    if decode == "rank":
        return best_labels(model, task, tokenizer, input_ids, attention_mask)
    answers = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        task=task.name,
        # As the authors: room for the longest label, the start token counted in.
        max_length=answer_length(task, tokenizer),
        num_beams=task.num_beams,
        do_sample=False,
        synced_gpus=synced_gpus,
    )
    return tokenizer.batch_decode(answers, skip_special_tokens=True)


def evaluate(
    model: Any,
    tasks: dict[str, Task],
    splits: dict[str, TokenizedSplit],
    tokenizer: Any,
    *,
    batch_size: int,
    context: DistributedContext,
    decode: str = "generate",
    partitioned: bool = False,
    after_batch: Callable[[float], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Metrics of every task in percent: task -> metric -> value. The arguments are :func:`predict`'s."""
    return {
        name: compute_metrics(
            tasks[name],
            predict(
                model,
                tasks[name],
                split,
                tokenizer,
                batch_size=batch_size,
                context=context,
                decode=decode,
                partitioned=partitioned,
                after_batch=after_batch,
            ),
            split.target_texts,
        )
        for name, split in splits.items()
    }
