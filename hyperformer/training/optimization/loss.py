"""The loss of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from hyperformer.data.collate import IGNORED


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
