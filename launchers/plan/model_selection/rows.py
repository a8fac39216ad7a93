"""Which runs belong to one row of a table: they differ in seed, and in single-task variants in the task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from launchers.plan.plan import Run

Settings = tuple[tuple[str, str], ...]
RowKey = tuple[str, Settings]
"""A variant, and (setting, value as text) in which its rows differ."""


def row_keys(runs: Iterable[Run]) -> Iterator[RowKey]:
    """The row of each run, in their order.

    Two runs cannot both be one seed's result of one task, whatever their names say: the second gets a row of its own.
    """
    taken: set[tuple[RowKey, int, str]] = set()
    for run in runs:
        key = run.row
        claims = {(key, run.config.seed, task) for task in run.config.data.tasks}
        if taken.isdisjoint(claims):
            taken |= claims
            yield key
        else:
            yield key[0], (*key[1], ("signature", run.signature))
