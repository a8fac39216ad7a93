"""Rows of a split as one padded batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hyperformer.data.dataset import TokenizedSplit

IGNORED = -100
"""Label of a padded position; the loss leaves it out."""


def pad(rows: Sequence[np.ndarray], value: int) -> torch.Tensor:
    """Rows padded at the end with `value` to the longest.

    Returns:
        int64, shape (len(rows), longest).
    """
    padded = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)


def collate(
    split: TokenizedSplit, indices: Sequence[int] | np.ndarray, *, pad_token_id: int
) -> dict[str, torch.Tensor]:
    """The batch of some rows of a split; arguments and result as in :func:`collate_rows`."""
    return collate_rows(split.sources(indices), split.targets(indices), pad_token_id=pad_token_id)


def collate_rows(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], *, pad_token_id: int
) -> dict[str, torch.Tensor]:
    """The batch of some rows, padded to its longest row.

    Returns:
        `input_ids` and `attention_mask`, shape (batch, source length), and `labels`, shape
        (batch, target length), padded with -100; all int64.
    """
    input_ids = pad(sources, pad_token_id)
    lengths = torch.tensor([len(row) for row in sources])
    return {
        "input_ids": input_ids,
        "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
        "labels": pad(targets, IGNORED),
    }
