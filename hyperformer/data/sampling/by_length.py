"""Batches of rows of like length: less padding, and each row still once per pass, or once in an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyperformer.settings.schema import EVAL_ROWS

POOL = 64
"""Batches whose rows are sorted together at most: enough to find rows of like length."""
POOLS = 4
"""Pools of a pass at least. A pass that is one pool would have the same batches as the pass before."""


def group_by_length(
    order: np.ndarray,
    lengths: Sequence[np.ndarray],
    batch_size: int,
    first: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """The order of one pass, changed so that the rows of a batch have like length.

    The rows are cut into pools, sorted in each pool and cut into batches, and the batches
    are shuffled. The rows of the two batches that this pass shares with its neighbours stay where they are.

    Args:
        order: the rows in random order.
        lengths: of each row; the first counts most.
        first: rows of this pass that complete the last batch of the pass before.
    """
    last = first + max(len(order) - first, 0) // batch_size * batch_size
    rows = order[first:last]
    pool = min(POOL, len(rows) // batch_size // POOLS)
    pools = np.arange(len(rows)) // max(pool * batch_size, batch_size)
    rows = rows[np.lexsort([*(of_rows[rows] for of_rows in reversed(lengths)), pools])]
    batches = rng.permutation(rows.reshape(-1, batch_size))
    return np.concatenate([order[:first], batches.ravel(), order[last:]])


def packed_batches(lengths: np.ndarray, ranks: int, most: int | None, more: int) -> list[np.ndarray]:
    """Batches of an evaluation, the longest rows first, and equally many for each rank.

    Args:
        lengths: tokens of each row's source.
        most: rows of a rank's batch at most; None: as many as need no more memory than :data:`EVAL_ROWS` of the
            longest rows.
        more: tokens that take as much memory as what a row needs beside its source.

    Returns:
        Row numbers, shape (ranks, rows); the last batch repeats the last row until all ranks have equally many.
    """
    order = np.argsort(lengths, kind="stable")[::-1]
    weights, batches, start = lengths[order] + more, list[np.ndarray](), 0
    while start < len(order):
        rows = most or EVAL_ROWS * int(weights[0]) // int(weights[start])
        rows = min(rows, -(-(len(order) - start) // ranks))
        batch = order[start : start + ranks * rows]
        start += len(batch)
        batches.append(
            np.append(batch, np.repeat(batch[-1:], ranks * rows - len(batch))).reshape(ranks, rows)
        )
    return batches
