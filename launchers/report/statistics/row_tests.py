"""Tests between the rows of a test table, on the answers that the runs kept."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from launchers.report.report_data import AVERAGES, Column, Difference, Precision, Row, Table
from launchers.report.statistics.kept_answers import read_kept

if TYPE_CHECKING:
    from launchers.report.statistics.paired import PairedResult
    from launchers.report.statistics.resampled_metrics import Array

MOST_ROWS = 20
"""Rows that are tested against each other: of more, nothing would be left after the correction."""


@dataclass(frozen=True)
class _Tested:
    """A row against the best one of a column."""

    row: int
    column: Column
    test_rows: int
    result: PairedResult


def with_tests(table: Table) -> Table:
    """The test table, each row tested against the best of its block and column; and what the test sets can tell."""
    most = max(map(len, table.blocks), default=0)
    if most > MOST_ROWS:
        why = f"{most} rows are more than {MOST_ROWS}; choose settings with `select:`"
        return replace(table, untested=(why,))
    tested: list[_Tested] = []
    precision: dict[Column, Precision] = {}
    untested: dict[str, list[str]] = {}
    pairs = 0
    columns = [column for column in table.columns if column not in AVERAGES and column[1]]
    for task in dict.fromkeys(task for task, _ in columns):
        kept = read_kept(table, task)
        for why, names in kept.faults.items():
            told = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            untested.setdefault(f"{told}: {why}", []).append(task)
        for column in [column for column in columns if column[0] == task]:
            for numbers in _numbers(table):
                means = [table.rows[number].cells[column].mean for number in numbers]
                scores = [-math.inf if mean is None else mean for mean in means]
                best = numbers[scores.index(max(scores))]
                models = {number: kept.of_row(table.rows[number], column) for number in numbers}
                models = {number: found for number, found in models.items() if found}
                pairs += math.comb(len(models), 2)
                if best in models:
                    found = _precision(column, models[best])
                    precision[column] = max(found, precision.get(column, found), key=_error)
                    tested += _against(best, column, models)
    return replace(
        table,
        rows=_marked(table, tested, pairs),
        precision=precision,
        pairs=pairs,
        untested=tuple(f"{', '.join(tasks)}: {why}" for why, tasks in untested.items()),
    )


def _numbers(table: Table) -> Iterator[list[int]]:
    """The numbers of the rows of each block."""
    count = itertools.count()
    yield from ([next(count) for _ in block] for block in table.blocks)


def _error(precision: Precision) -> float:
    return precision.standard_error


def _against(best: int, column: Column, models: Mapping[int, Sequence[Array]]) -> list[_Tested]:
    from launchers.report.statistics.paired import paired_bootstrap
    from launchers.report.statistics.resampled_metrics import BY_COLUMN

    found = []
    for number, mine in models.items():
        if number != best:
            result = paired_bootstrap(BY_COLUMN[column[1]], mine, models[best])
            if result is not None:
                found.append(_Tested(number, column, len(mine[0]), result))
    return found


def _precision(column: Column, models: Sequence[Array]) -> Precision:
    from launchers.report.statistics.paired import standard_error
    from launchers.report.statistics.resampled_metrics import BY_COLUMN

    return Precision(len(models[0]), standard_error(BY_COLUMN[column[1]], models[0]))


def _marked(table: Table, tested: Sequence[_Tested], pairs: int) -> tuple[Row, ...]:
    """The rows, with the tests in their cells."""
    from launchers.report.statistics.paired import holm

    cells = [dict(row.cells) for row in table.rows]
    corrected = holm([one.result.p for one in tested], pairs)
    for one, p_holm in zip(tested, corrected, strict=True):
        result = one.result
        difference = Difference(result.value, result.low, result.high, result.p, p_holm, one.test_rows)
        cells[one.row][one.column] = replace(cells[one.row][one.column], difference=difference)
    return tuple(replace(row, cells=found) for row, found in zip(table.rows, cells, strict=True))
