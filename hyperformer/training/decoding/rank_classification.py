"""Rank classification (``decode=rank``): the answer is the task's most probable label, so it is always valid."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from hyperformer.answers.answers import Answer
from hyperformer.data.collate import IGNORED
from hyperformer.data.tasks import Task
from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.training.decoding.label_tree import LabelTree, attends_as_tree, label_trees

# Of one forward: a batch of 32 has 0.5 GB of logits over T5's vocabulary.
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


def non_finite_score(task: Task) -> HyperformerError:
    """The error of an answer that is chosen by scores that are not finite."""
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
        raise non_finite_score(task)
    labels, best = task.labels or (), scores.argmax(dim=1).tolist()
    # The fewest digits that give exactly this float32.
    logprobs = [[float(str(score)) for score in row] for row in scores.cpu().numpy()]
    return [
        Answer(labels[number], label_logprobs=dict(zip(labels, row, strict=True)))
        for number, row in zip(best, logprobs, strict=True)
    ]


def trees_of_labels(model: Any, task: Task, tokenizer: Any) -> tuple[LabelTree, ...]:
    """The task's labels, in order, as trees that one forward of the decoder reads: a label by itself if it must be."""
    labels = tuple(map(tuple, tokenizer(list(task.labels or ()))["input_ids"]))
    return label_trees(
        labels, model.config.decoder_start_token_id, TARGET_TOKENS if model.packs_targets else 0
    )


def label_scores(model: Any, task: Task, tokenizer: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Log-probability of each label, </s> included, as the answer to each row.

    The sources are encoded once, and each distinct prefix of the labels is decoded once.

    Returns:
        (B, L) float32.
    """
    which = {"task_ids": model.task_id(task.name)} if model.knows_task else {}
    encoded = model.encoder(input_ids=input_ids, attention_mask=attention_mask, **which).last_hidden_state
    # All forwards keep the adapters' weights in one dict.
    inputs = {**which, "adapter_weights": {}, "attention_mask": attention_mask}
    inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=encoded)
    trees = [tree.to(input_ids.device) for tree in trees_of_labels(model, task, tokenizer)]
    return torch.cat([_scores(model, tree, inputs) for tree in trees], dim=1)


def _scores(model: Any, tree: LabelTree, inputs: dict[str, Any]) -> Tensor:
    """Scores of the labels of a tree for each row, by one forward of the decoder: (B, labels) float32.

    Args:
        inputs: the encoded sources and the task, for the model.
    """
    rows = len(inputs["attention_mask"])
    with attends_as_tree(model.decoder, tree) if model.packs_targets else nullcontext():
        logits = model(
            **inputs, decoder_input_ids=tree.tokens.expand(rows, -1), use_cache=False
        ).logits.float()
    chosen = logits[:, tree.parents, tree.labels.clamp(min=0)] - logits.logsumexp(dim=-1)[:, tree.parents]
    return chosen.masked_fill(tree.labels == IGNORED, 0.0).sum(dim=-1)
