"""Rows of a split as one padded batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hyperformer.data.dataset import TokenizedSplit

IGNORED = -100
"""Label of a padded position; the loss leaves it out."""


def pad(rows: Sequence[np.ndarray], value: int, multiple: int | None = None) -> torch.Tensor:
    """Rows padded at the end with `value` to the longest, or to the next multiple of `multiple`.

    Returns:
        int64, shape (len(rows), longest).
    """
    longest = max(len(row) for row in rows)
    if multiple:
        longest = -(-longest // multiple) * multiple
    padded = np.full((len(rows), longest), value, dtype=np.int64)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(padded)


def collate(
    split: TokenizedSplit,
    indices: Sequence[int] | np.ndarray,
    *,
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
) -> dict[str, torch.Tensor]:
    """The batch of some rows of a split; arguments and result as in :func:`collate_rows`."""
    sources, targets = split.sources(indices), split.targets(indices)
    return collate_rows(sources, targets, pad_token_id=pad_token_id, pad_to_multiple_of=pad_to_multiple_of)


def collate_rows(
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    *,
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
) -> dict[str, torch.Tensor]:
    """The batch of some rows, padded to its longest row.

    Args:
        pad_to_multiple_of: make lengths multiples of this (8 is fast on tensor cores).

    Returns:
        `input_ids` and `attention_mask`, shape (batch, source length), and `labels`, shape
        (batch, target length), padded with -100; all int64.
    """
    input_ids = pad(sources, pad_token_id, pad_to_multiple_of)
    lengths = torch.tensor([len(row) for row in sources])
    return {
        "input_ids": input_ids,
        "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
        "labels": pad(targets, IGNORED, pad_to_multiple_of),
    }
