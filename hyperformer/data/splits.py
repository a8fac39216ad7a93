"""Which rows make the training, validation and test split of a task.

The test sets of GLUE have no labels. So the authors make their splits from the rows
that have one (torch's random permutations, seed 42):

- small tasks: half of the validation split is validation, the other half is test;
- large tasks: 1,000 training rows are validation, the validation split is test;
- the others: as the task's table row says.

A task of a user's with `split: 90/5/5` has its training rows permuted in the same way, and cut in three.

We do the same, and fix two faults that `reference_splits` brings back: the authors
also train on the 1,000 validation rows of large tasks, and they drop the last row of
every split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from hyperformer.data.examples import Examples, make_examples
from hyperformer.data.readers.rows import Rows
from hyperformer.data.sources import Source, find_source
from hyperformer.data.tasks.task import SPLITS, Task
from hyperformer.errors import ConfigError, DataError, nearest
from hyperformer.settings.schema import DataConfig, RunConfig

if TYPE_CHECKING:
    import numpy as np

SEED = 42
HELD_OUT = 1_000
"""Training rows that become the validation split of a large task."""
LIMITS = {"train": "n_train", "validation": "n_val", "test": "n_test"}
"""Split -> the setting that says how many rows of it are read at most."""


@dataclass(frozen=True)
class SplitRule:
    """How rows are chosen from a split of the source.

    Attributes:
        held_out: training rows of a large task that become validation.
        n_obs: take the first so many of the permuted rows; None: all of them; -1 is the
            authors' default, which drops the last row and does not permute what is not split.
        split_validation: make validation and test from the rows that have labels (the authors'
            `split_validation_test`).
    """

    held_out: int = HELD_OUT
    n_obs: int | None = None
    split_validation: bool = True


def permutation(n: int) -> np.ndarray:
    """The authors' order of `n` rows: int64, shape (n,)."""
    import torch

    return torch.randperm(n, generator=torch.Generator().manual_seed(SEED)).numpy()


def held_out_rows(n: int) -> int:
    """How many of `n` training rows of a large task become validation.

    1,000, or a fifth if fewer than 1,000 would be left to train on.
    """
    return HELD_OUT if n >= 2 * HELD_OUT else n // 5


def source_split(task: Task, split: str, *, split_validation: bool = True) -> str:
    """The split of the source that the rows of `split` come from.

    Args:
        split_validation: make validation and test out of what is labelled (see above).
    """
    if task.split:
        return task.splits["train"]
    if split_validation and task.size == "large" and split == "validation":
        return task.splits["train"]
    if split_validation and task.size == "small" and split == "test":
        return task.splits["validation"]
    return task.splits[split]


def source_splits(task: Task, config: RunConfig) -> set[str]:
    """The splits of the source that a run reads."""
    reference = config.data.reference_splits
    return {
        source_split(task, split, split_validation=_split_validation(split, reference))
        for split in config.splits
    }


def _split_validation(split: str, reference_splits: bool) -> bool:
    """The authors pass split_validation_test for validation and test, and not for train."""
    return not (reference_splits and split == "train")


def split_indices(task: Task, split: str, n: int, rule: SplitRule, groups: Sequence[str] = ()) -> np.ndarray:
    """The rows of `split`, as indices into its :func:`source_split`, which has `n` rows.

    Args:
        groups: the question of each row. The rows of one stay together: a split has at most as many rows as asked
            for. Empty: each row is a question of its own.

    Returns:
        int64, shape (rows,).
    """
    import numpy as np  # too slow for the commands that only plan

    rows, ends = _in_order(groups) if groups else (permutation(n), np.arange(n + 1))

    def whole(count: int) -> int:
        """The largest number of first rows, `count` at most, that tears no question apart."""
        return int(ends[np.searchsorted(ends, count, side="right") - 1])

    start, stop = 0, n
    if task.split:
        validation, test = (whole(_rounded(n, *parts)) for parts in (task.split[1:2], task.split[1:]))
        bounds = {"validation": (0, validation), "test": (validation, test), "train": (test, n)}
        start, stop = bounds[split]
    elif rule.split_validation and task.size == "small" and split != "train":
        half = whole(n // 2)
        start, stop = (0, half) if split == "validation" else (half, n)
    elif rule.split_validation and task.size == "large" and split != "test":
        held_out = whole(rule.held_out)
        start, stop = (0, held_out) if split == "validation" else (held_out, n)
    elif rule.n_obs == -1:
        rows = np.arange(n)
    if rule.n_obs == -1:
        stop = max(start, stop - 1)
    elif rule.n_obs is not None:
        stop = min(stop, whole(start + rule.n_obs))
    return rows[start:stop]


def _rounded(n: int, *percent: str) -> int:
    """So many percent of `n`, halves up; exact, so that every machine has the same."""
    return math.floor(n * sum(map(Fraction, percent)) / 100 + Fraction(1, 2))


def _in_order(groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows, question by question in the authors' order; and after how many of them each question ends, from 0."""
    import numpy as np

    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    questions = list(members.values())
    shuffled = [questions[number] for number in permutation(len(questions))]
    return np.concatenate(shuffled), np.cumsum([0, *map(len, shuffled)])


def split_source(task: Task, split: str, settings: DataConfig) -> Source:
    """Where the rows are that a split is made of.

    Args:
        split: 'train', 'validation' or 'test'.
        settings: where rows are, and whose splits.

    Raises:
        ConfigError, DataError: as :func:`find_source`.
    """
    if split not in SPLITS:
        raise ConfigError(f"There is no split {split!r}{nearest(split, SPLITS)}")
    reference = settings.reference_splits
    if reference and (task.has_references or task.split):
        raise ConfigError(f"reference_splits: the authors have no task such as {task.name}; leave it out")
    name = source_split(task, split, split_validation=_split_validation(split, reference))
    return find_source(task, name, source=settings.data_source, data_dir=settings.data_dir)


def load_split(task: Task, split: str, settings: DataConfig, *, prefix: bool = False) -> Examples:
    """The examples of one split, ready to be tokenised; arguments and errors as of :func:`make_split`."""
    rows = split_source(task, split, settings).read()
    return make_split(rows, task, split, settings, prefix=prefix)


def make_split(rows: Rows, task: Task, split: str, settings: DataConfig, *, prefix: bool) -> Examples:
    """The examples of one split.

    Args:
        rows: of :func:`split_source`.
        split: 'train', 'validation' or 'test'.
        settings: how many rows at most (drawn at random, seed 42), and whose splits.
        prefix: start every source with the task's prefix.

    Raises:
        DataError: as :func:`make_examples`; no row is left.
    """
    reference = settings.reference_splits
    examples = make_examples(task, rows, prefix=prefix, keep_unlabelled=reference)
    limit = getattr(settings, LIMITS[split])
    rule = SplitRule(
        held_out=HELD_OUT if reference else held_out_rows(len(examples)),
        n_obs=-1 if reference and limit is None else limit,
        split_validation=_split_validation(split, reference),
    )
    groups = [reference.group for reference in examples.references] if task.group else []
    chosen = examples.take(split_indices(task, split, len(examples), rule, groups))
    if split == "train":
        chosen = chosen.one_per_answer()
        chosen = chosen.take(range(min(len(chosen), limit or len(chosen))))
    if not len(chosen):
        name = source_split(task, split, split_validation=rule.split_validation)
        raise DataError(
            f"task {task.name!r}: split {split!r} would be empty: it is made of {len(examples)} rows of {name!r}"
            + (f" by split: {'/'.join(task.split)}" if task.split else "")
            + (" by the authors' rules (reference_splits)" if reference else "")
        )
    return chosen
