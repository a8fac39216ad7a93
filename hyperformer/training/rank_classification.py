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

# Of one forward. Among them attention costs little; a batch of 32 has 0.5 GB of logits over T5's vocabulary.
TARGET_TOKENS = 128


def check_decode(tasks: Iterable[Task], decode: str) -> None:
    """Check, before training, that the tasks can be answered as the setting says.

    Raises:
        ConfigError: an answer must be a label, and a task has none.
    """
    free = [task.name for task in tasks if not task.labels]
    if decode != "generate" and free:
        raise ConfigError(
            f"decode={decode} chooses among a task's labels, and {', '.join(free)} has none (its answers are free "
            "text): write decode=generate, or remove the task"
        )


def score_is_no_number(task: Task) -> HyperformerError:
    """The error of an answer that is chosen by scores which are no numbers."""
    return HyperformerError(
        f"task {task.name!r}: a label's score is not a number; the model's weights are damaged, "
        "or too large for this precision (try fp32 or bf16)"
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
    scores = label_scores(model, task, tokenizer, input_ids, attention_mask)
    if not bool(torch.isfinite(scores).all()):
        raise score_is_no_number(task)
    labels, best = task.labels or (), scores.argmax(dim=1).tolist()
    # The fewest digits that stand for this very float32.
    logprobs = [[float(str(score)) for score in row] for row in scores.cpu().numpy()]
    return [
        Answer(labels[number], label_logprobs=dict(zip(labels, row, strict=True)))
        for number, row in zip(best, logprobs, strict=True)
    ]


def label_scores(model: Any, task: Task, tokenizer: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Log-probability of each label, </s> included, as the answer to each row.

    The sources are encoded once. A row's labels stand one after another in one target, each of which sees itself
    alone: so the decoder reads a source once, and not once per label.

    Returns:
        (B, L) float32.
    """
    labels = pad([np.asarray(ids) for ids in tokenizer(list(task.labels or ()))["input_ids"]], IGNORED)
    labels = labels.to(input_ids.device)
    together = max(1, TARGET_TOKENS // labels.shape[1]) if model.packs_targets else 1
    which = {"task_ids": model.task_id(task.name)} if model.knows_task else {}
    encoded = model.encoder(input_ids=input_ids, attention_mask=attention_mask, **which).last_hidden_state
    # All forwards keep the adapters' weights in one dict.
    inputs = {**which, "adapter_weights": {}, "attention_mask": attention_mask}
    inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=encoded)
    return torch.cat([_scores(model, part, inputs) for part in labels.split(together)], dim=1)


def _scores(model: Any, labels: Tensor, inputs: dict[str, Any]) -> Tensor:
    """Scores of some labels (L, T) for each row, by one forward of the decoder: (B, L) float32.

    Args:
        inputs: the encoded sources and the task, for the model.
    """
    encoded = inputs["encoder_outputs"].last_hidden_state
    rows, shifted = len(encoded), model.prepare_decoder_input_ids_from_labels(labels)
    mask = _each_label_alone(labels, encoded.dtype).expand(rows, -1, -1, -1) if len(labels) > 1 else None
    logits = model(
        **inputs,
        decoder_input_ids=shifted.view(1, -1).expand(rows, -1),
        decoder_attention_mask=mask,
        use_cache=False,
    ).logits.float()
    wanted = labels.view(1, -1).expand(rows, -1)
    chosen = logits.gather(-1, wanted.clamp(min=0).unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1)
    return (chosen * (wanted != IGNORED)).view(rows, *labels.shape).sum(dim=-1)


def _each_label_alone(labels: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the attention scores of L labels of T tokens, one after another: (1, 1, L * T, L * T)."""
    place = torch.arange(labels.numel(), device=labels.device)
    label = place // labels.shape[1]
    is_seen = (label[:, None] == label) & (place[:, None] >= place)
    hidden = torch.full(is_seen.shape, torch.finfo(dtype).min, dtype=dtype, device=labels.device)
    return hidden.masked_fill(is_seen, 0.0)[None, None]
