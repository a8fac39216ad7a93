"""Several sweeps side by side, as one report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from launchers.report.report_data import AVERAGES, Cell, Column, ReportData, Row, Table
from launchers.report.results import RunResult, mixed_inputs, mixed_versions, unknown_inputs
from launchers.report.statistics.row_tests import with_tests
from launchers.report.statistics.seed_tests import comparisons, with_intervals
from launchers.report.tables import with_best


def compare_reports(reports: Sequence[ReportData]) -> ReportData:
    """One report of several: its rows and runs bear the name of their sweep.

    A column that a sweep lacks is empty in its rows. Averages over different columns do not compare: if the sweeps
    have different ones, there are none.

    Args:
        reports: of sweeps with different names.
    """
    reports = [_named(report) for report in reports]
    shown = list(dict.fromkeys(table.split for report in reports for table in report.tables))
    tables = [_table([report for report in reports if _of(report, split)], split) for split in shown]
    runs = tuple(entry for report in reports for entry in report.runs)
    notes = (f"{report.name}: {note}" for report in reports for note in report.notes)
    return ReportData(
        name=" + ".join(report.name for report in reports),
        runs=runs,
        tables=tuple(tables),
        choices=tuple(
            replace(choice, variant=f"{report.name}: {choice.variant}")
            for report in reports
            for choice in report.choices
        ),
        comparisons=tuple(comparisons(tables[0])),
        notes=(*notes, *mixed_versions(runs)),
    )


def _of(report: ReportData, split: str) -> Table | None:
    return next((table for table in report.tables if table.split == split), None)


def _table(reports: Sequence[ReportData], split: str) -> Table:
    tables = [table for report in reports if (table := _of(report, split))]
    known = [column for table in tables for column in table.columns if column not in AVERAGES and column[1]]
    own = [tuple(_own(table, known)) for table in tables]
    columns = list(dict.fromkeys(column for each in own for column in each))
    differ = any(set(each) != set(columns) for each in own)
    rows = [_row(row, columns, differ) for table in tables for row in table.rows]
    entries = [entry for row in rows for entry in row.runs]
    warnings = [*mixed_inputs(entries), *unknown_inputs(entries)]
    if differ:
        warnings.append("the sweeps have different columns, so there are no averages")
    names = list(dict.fromkeys(table.validation_name for table in tables))
    merged = Table(
        split, (*columns, *AVERAGES), with_best(rows), " or ".join(names), warnings=tuple(warnings)
    )
    merged = with_intervals(merged)
    return with_tests(merged) if split == "test" else merged


def _own(table: Table, known: Sequence[Column]) -> Iterator[Column]:
    """A table's columns but averages; a task of which no run has ended has the metrics that it has elsewhere."""
    for task, metric in (column for column in table.columns if column not in AVERAGES):
        elsewhere = [] if metric else [column for column in known if column[0] == task]
        yield from elsewhere or [(task, metric)]


def _row(row: Row, columns: Sequence[Column], no_averages: bool) -> Row:
    absent = Cell(0, 0)
    cells = {column: row.cells.get(column, absent) for column in columns}
    cells |= {column: absent if no_averages else row.cells[column] for column in AVERAGES}
    return replace(row, cells={column: replace(cell, difference=None) for column, cell in cells.items()})


def _named(report: ReportData) -> ReportData:
    """The report with the sweep's name before each variant and run, so that none bears another's name."""
    runs = {entry.run.name: _entry(report.name, entry) for entry in report.runs}
    return replace(
        report,
        runs=tuple(runs.values()),
        tables=tuple(
            replace(table, rows=tuple(_rows(report.name, table.rows, runs))) for table in report.tables
        ),
    )


def _entry(sweep: str, entry: RunResult) -> RunResult:
    return replace(entry, run=replace(entry.run, name=f"{sweep}: {entry.run.name}"))


def _rows(sweep: str, rows: Sequence[Row], runs: dict[str, RunResult]) -> Iterator[Row]:
    for row in rows:
        unfinished = tuple((f"{sweep}: {name}", state, why) for name, state, why in row.unfinished)
        yield replace(
            row,
            variant=f"{sweep}: {row.variant}",
            runs=tuple(runs[entry.run.name] for entry in row.runs),
            unfinished=unfinished,
        )
