"""Which rows make the training, validation and test split of a task.

Test sets of GLUE have no labels, so the authors make splits of what is labelled
(random permutations of torch, seed 42):

- small tasks: half of the validation split is validation, the other half test;
- large tasks: 1,000 training rows are validation, the validation split is test;
- the others: as the task's table row says.

We do the same, with two faults mended that `reference_splits` brings back: the
authors also train on the 1,000 validation rows of large tasks, and they drop the
last row of every split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hyperformer.data.sources import load_rows
from hyperformer.data.tasks.task import SPLITS, Task
from hyperformer.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

SEED = 42
HELD_OUT = 1_000
"""Training rows that become the validation split of a large task."""


def permutation(n: int) -> np.ndarray:
    """The authors' order of `n` rows: int64, shape (n,)."""
    import torch

    return torch.randperm(n, generator=torch.Generator().manual_seed(SEED)).numpy()


def held_out_rows(n: int) -> int:
    """How many of `n` training rows of a large task become validation.

    1,000; a fifth where that would leave fewer rows to train on than it takes.
    """
    return HELD_OUT if n >= 2 * HELD_OUT else n // 5


def source_split(task: Task, split: str, *, split_validation: bool = True) -> str:
    """The split of the source that the rows of `split` come from.

    Args:
        split_validation: make validation and test out of what is labelled (see above).
    """
    if split_validation and task.size == "large" and split == "validation":
        return task.splits["train"]
    if split_validation and task.size == "small" and split == "test":
        return task.splits["validation"]
    return task.splits[split]


def split_indices(
    task: Task, split: str, n: int, *, held_out: int, n_obs: int | None, split_validation: bool = True
) -> np.ndarray:
    """The rows of `split`, as indices into its :func:`source_split`, which has `n` rows.

    Args:
        held_out: training rows of a large task that become validation.
        n_obs: the first so many of the permuted rows; -1 is the authors' default, which
            drops the last row, and leaves in the source's order what is not split.
        split_validation: the authors' `split_validation_test`.

    Returns:
        int64, shape (rows,).
    """
    rows = permutation(n)
    if split_validation and task.size == "small" and split != "train":
        rows = rows[: n // 2] if split == "validation" else rows[n // 2 :]
    elif split_validation and task.size == "large" and split != "test":
        rows = rows[:held_out] if split == "validation" else rows[held_out:]
    elif n_obs == -1:
        rows = np.arange(n)
    return rows if n_obs is None else rows[:n_obs]


def load_split(
    task: Task,
    split: str,
    *,
    source: str,
    data_dir: str | None = None,
    n_obs: int | None = None,
    reference_splits: bool = False,
) -> Dataset:
    """The rows of one split, ready to be tokenised.

    Args:
        split: 'train', 'validation' or 'test'.
        source, data_dir: as in :func:`hyperformer.data.sources.load_rows`.
        n_obs: at most so many rows, drawn at random (seed 42); None: all.
        reference_splits: exactly the authors' rows.

    Raises:
        ConfigError, DataError: as `load_rows`; no row is left.
    """
    if split not in SPLITS:
        raise ConfigError(f"There is no split {split!r}{nearest(split, SPLITS)}")
    if n_obs is not None and n_obs < 1:
        raise ConfigError(f"n_obs is {n_obs}; write the number of rows, 1 or more, or nothing for all")
    # The authors pass split_validation_test for validation and test, and not for train.
    split_validation = not (reference_splits and split == "train")
    name = source_split(task, split, split_validation=split_validation)
    rows = load_rows(task, name, source=source, data_dir=data_dir)
    if task.unlabelled_rows and not reference_splits:
        labels = np.asarray(rows[task.target])
        rows = rows.select(np.flatnonzero(labels != -1))
    indices = split_indices(
        task,
        split,
        len(rows),
        held_out=HELD_OUT if reference_splits else held_out_rows(len(rows)),
        n_obs=-1 if reference_splits and n_obs is None else n_obs,
        split_validation=split_validation,
    )
    if not len(indices):
        raise DataError(
            f"task {task.name!r}: split {split!r} would be empty: it is made of {len(rows)} rows of {name!r}"
            + (" by the authors' rules (reference_splits)" if reference_splits else "")
        )
    return rows.select(indices)
