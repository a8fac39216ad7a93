"""Rows that a sampler has drawn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Drawn(NamedTuple):
    """Training rows of one task, or each of a task of its own.

    Attributes:
        task: its name; or the number of each row's task, int64, shape (rows,).
        rows: row indices within the task: int64, shape (rows,).
    """

    task: str | np.ndarray
    rows: np.ndarray

    def parts(self, count: int) -> list[Drawn]:
        """The same rows in `count` parts of one size, in their order."""
        rows = np.split(self.rows, count)
        if isinstance(self.task, str):
            return [Drawn(self.task, part) for part in rows]
        return [Drawn(*part) for part in zip(np.split(self.task, count), rows, strict=True)]

    def by_task(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Each task's rows; `names`: of all tasks, in the order of their numbers."""
        if isinstance(self.task, str):
            return {self.task: self.rows}
        found = ((name, self.rows[self.task == number]) for number, name in enumerate(names))
        return {name: rows for name, rows in found if len(rows)}
