"""Rank classification (``decode=rank``): the answer is the task's most probable label, so it is always valid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from hyperformer.answers.answers import Answer
from hyperformer.data.collate import IGNORED, pad
from hyperformer.data.tasks import Task
from hyperformer.errors import ConfigError, HyperformerError


def check_decode(tasks: Iterable[Task], decode: str) -> None:
    """Check, before training, that the tasks can be answered as the setting says.

    Raises:
        ConfigError: rank classification is asked for, and a task has no labels.
    """
    free = [task.name for task in tasks if not task.labels]
    if decode == "rank" and free:
        raise ConfigError(
            f"decode=rank chooses among a task's labels, and {', '.join(free)} has none (its answers are free "
            "text): write decode=generate, or remove the task"
        )


@torch.no_grad()
def best_labels(
    model: Any, task: Task, tokenizer: Any, input_ids: Tensor, attention_mask: Tensor
) -> list[Answer]:
    """The most probable label of each row, with the log-probabilities of all.

    Args:
        model: a HyperformerT5.
        input_ids, attention_mask: (B, S).
    """
    check_decode([task], "rank")
    scores = label_scores(model, task, tokenizer, input_ids, attention_mask)
    if not bool(torch.isfinite(scores).all()):
        raise HyperformerError(
            f"task {task.name!r}: a label's score is not a number; the model's weights are damaged, "
            "or too large for this precision (try fp32 or bf16)"
        )
    labels, best = task.labels or (), scores.argmax(dim=1).tolist()
    # The fewest digits that stand for this very float32.
    logprobs = [[float(str(score)) for score in row] for row in scores.cpu().numpy()]
    return [
        Answer(labels[number], label_logprobs=dict(zip(labels, row, strict=True)))
        for number, row in zip(best, logprobs, strict=True)
    ]


def label_scores(model: Any, task: Task, tokenizer: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Log-probability of each label, </s> included, as the answer to each row.

    The sources are encoded once. Then one forward of the decoder scores every
    label for every row.

    Returns:
        (B, L) float32.
    """
    labels = pad([np.asarray(ids) for ids in tokenizer(list(task.labels or ()))["input_ids"]], IGNORED)
    rows, count = len(input_ids), len(labels)
    which = {"task_ids": model.task_id(task.name)} if model.knows_task else {}
    encoded = model.encoder(input_ids=input_ids, attention_mask=attention_mask, **which).last_hidden_state
    # Row by row: all labels of the first row, then those of the second.
    wanted = labels.to(input_ids.device).repeat(rows, 1)
    logits = model(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded.repeat_interleave(count, dim=0)),
        attention_mask=attention_mask.repeat_interleave(count, dim=0),
        decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels=wanted),
        use_cache=False,
        **which,
    ).logits.float()
    counted = wanted != IGNORED
    chosen = logits.gather(-1, wanted.clamp(min=0).unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1)
    return (chosen * counted).sum(dim=-1).view(rows, count)
