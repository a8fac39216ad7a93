"""Examples of rows that a test writes down."""

from __future__ import annotations

from typing import Any

from hyperformer.data.examples import Examples, make_examples
from hyperformer.data.readers.rows import record_rows
from hyperformer.data.tasks import Task


def examples(task: Task, *rows: dict[str, Any], prefix: bool = False) -> Examples:
    here = record_rows(rows, "rows", lambda row: f"rows, row {row}")
    return make_examples(task, here, prefix=prefix, keep_unlabelled=True)


def example(task: Task, row: dict[str, Any], *, prefix: bool = False) -> tuple[str, str]:
    """(source, target) of one row."""
    made = examples(task, row, prefix=prefix)
    return made.sources[0], made.targets[0]
