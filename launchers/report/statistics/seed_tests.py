"""Adds to a table what can be said of its numbers: intervals over seeds, tests between rows, comparisons of seeds."""

from __future__ import annotations

import statistics
from dataclasses import replace

from launchers.report.report_data import AVERAGE, AVERAGES, TASK_AVERAGE, Comparison, Row, Table
from launchers.report.statistics.seeds import compare_seeds, seed_intervals


def with_intervals(table: Table) -> Table:
    """The table with an interval over seeds in each cell that has several."""
    places = [(number, column) for number, row in enumerate(table.rows) for column in row.cells]
    samples = [list(table.rows[number].cells[column].values.values()) for number, column in places]
    if all(len(sample) < 2 for sample in samples):
        return table
    cells = [dict(row.cells) for row in table.rows]
    for (number, column), interval in zip(places, seed_intervals(samples), strict=True):
        cells[number][column] = replace(cells[number][column], interval=interval)
    rows = [replace(row, cells=found) for row, found in zip(table.rows, cells, strict=True)]
    return replace(table, rows=tuple(rows))


def comparisons(table: Table) -> list[Comparison]:
    """In each block, the row with the best average over tasks against each other one that has an average."""
    found = []
    for block in table.blocks:
        rows = [row for row in block if row.cells[TASK_AVERAGE].n]
        best = max(rows, key=lambda row: row.cells[TASK_AVERAGE].mean or 0.0, default=None)
        others = [row for row in rows if row is not best]
        found += [
            compare_seeds(best.label, row.label, _by_task(best), _by_task(row)) for row in others if best
        ]
    return found


def _by_task(row: Row) -> list[list[float]]:
    """Of each complete seed, the score on each task: the mean of the task's metrics."""
    tasks: dict[str, list[tuple[str, str]]] = {}
    for column in row.cells:
        if column not in AVERAGES:
            tasks.setdefault(column[0], []).append(column)
    return [
        [statistics.fmean(row.cells[column].values[seed] for column in columns) for columns in tasks.values()]
        for seed in row.cells[AVERAGE].values
    ]
