"""Batches of rows of like length: less padding, and each row still once per pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
