"""The loss of a batch, and its weight in a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from hyperformer.data.collate import IGNORED
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.deepspeed_config.batch import Batch


def token_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Label-smoothed cross-entropy, summed over the tokens that are not padding.

    Args:
        logits: (B, S, V); labels: (B, S), ``IGNORED`` where padded.
        smoothing: share of the target spread evenly over the vocabulary
            (Szegedy et al. 2016), as in the authors' code.
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )


def batch_loss(model: Any, batch: Mapping[str, Tensor], task: str | list[str], smoothing: float) -> Tensor:
    """:func:`token_loss` of a forward on a batch of one task, or of a task per row.

    T5 gets the decoder's inputs in place of the labels: from labels it would compute a loss of its own beside ours.

    Args:
        model: a HyperformerT5, or an engine over one.
        batch: `input_ids`, `attention_mask` and `labels`.
    """
    labels = batch["labels"]
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    shifted = model.prepare_decoder_input_ids_from_labels(labels)
    logits = model(**inputs, decoder_input_ids=shifted, task=task, use_cache=False).logits
    return token_loss(logits, labels, smoothing)


def loss_weight(settings: TrainingConfig, batch: Batch, tokens: int) -> float:
    """What a forward's :func:`batch_loss` is multiplied by, before the engine averages over ranks and forwards.

    Args:
        tokens: of the targets of the global batch.
    """
    if settings.loss_reduction == "mean":
        # Undo the engine's average, and divide by the tokens of the global batch, which every rank can count.
        return batch.ranks * batch.accumulation / tokens
    # The sum over the tokens of what the settings call a micro-batch, however it is split now.
    return settings.per_device_train_batch_size / batch.micro
