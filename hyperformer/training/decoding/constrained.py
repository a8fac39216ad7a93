"""Constrained decoding (``decode=constrained``): the model generates only what can be a right answer of the task.

Each step allows only the tokens that continue a label, as in a tree of the labels' prefixes (Cao et al. 2021,
"Autoregressive Entity Retrieval"). Without beams a row ends as soon as a single label is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from hyperformer.answers.answers import Answer
from hyperformer.data.collate import pad
from hyperformer.data.label_checks import possible_answers
from hyperformer.data.tasks import Task
from hyperformer.training.decoding.rank_classification import non_finite_score


def generate_labels(
    task: Task, tokenizer: Any, device: torch.device, generate: Callable[..., Tensor]
) -> list[Answer]:
    """The label that the model generates for each row.

    Args:
        generate: the model's, with the rows and all else that it needs.

    Raises:
        HyperformerError: the model's scores are not finite numbers.
    """
    labels = possible_answers(task)
    rows = pad([np.asarray(ids) for ids in tokenizer(labels)["input_ids"]], tokenizer.pad_token_id)
    prefixes = LabelPrefixes(rows.to(device), tokenizer.pad_token_id)
    ends = [] if task.num_beams > 1 else [_OneLabelLeft(prefixes)]  # beams compare whole answers
    # The start token comes first.
    written = generate(max_length=rows.shape[1] + 1, logits_processor=[prefixes], stopping_criteria=ends)
    fits = prefixes.fits(written[:, 1:])
    if not bool(prefixes.has_numbers & (fits.sum(dim=1) == 1).all()):
        raise non_finite_score(task)
    return [Answer(labels[number], labels[number]) for number in fits.int().argmax(dim=1).tolist()]


class LabelPrefixes(LogitsProcessor):
    """Allows only the tokens that continue a label.

    Args:
        labels: token ids, shape (labels, tokens), filled up with `pad_id`.

    Attributes:
        has_numbers: whether each row had a finite score for a token that continues a label; a tensor, so that
            no step waits for the device.
    """

    def __init__(self, labels: Tensor, pad_id: int) -> None:
        self.labels, self.pad_id = labels, pad_id
        self.has_numbers = torch.ones((), dtype=torch.bool, device=labels.device)

    def fits(self, written: Tensor) -> Tensor:
        """Which labels begin with what each row has written: (rows, labels). Rows that have ended are filled up."""
        same = written[:, None] == self.labels[:, : written.shape[1]]
        return (same | (written == self.pad_id)[:, None]).all(dim=2)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        written = input_ids[:, 1:]
        fits, tokens = self.fits(written), self.labels[:, written.shape[1]]
        allowed = scores[:, tokens].masked_fill(~fits, -torch.inf)
        # With more beams than labels, some beams belong to no label.
        self.has_numbers &= (allowed.amax(dim=1).isfinite() | ~fits.any(dim=1)).all()
        return torch.full_like(scores, -torch.inf).scatter_reduce(
            1, tokens.expand(fits.shape), allowed, "amax"
        )


class _OneLabelLeft(StoppingCriteria):
    """Ends a row whose answer is known."""

    def __init__(self, prefixes: LabelPrefixes) -> None:
        self.prefixes = prefixes

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return self.prefixes.fits(input_ids[:, 1:]).sum(dim=1) == 1
