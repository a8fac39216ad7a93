"""From the runs of a sweep to its report."""

from __future__ import annotations

from collections.abc import Sequence

from launchers.plan.model_selection.choose import choose
from launchers.plan.model_selection.rule import Number, SelectionRule
from launchers.report.report_data import ReportData
from launchers.report.results import RunResult, early_stops, mixed_versions, one_class_runs
from launchers.report.statistics.row_tests import with_tests
from launchers.report.statistics.seed_tests import comparisons, with_intervals
from launchers.report.tables import all_groups, chosen_groups, make_table, splits


def make_report(
    name: str, entries: Sequence[RunResult], rule: SelectionRule | None = None, columns: Sequence[str] = ()
) -> ReportData:
    """The report of a sweep.

    Args:
        name: the sweep's.
        rule: which settings are chosen; None: each has a row of its own.
        columns: the first ones of the tables: tasks, or tasks with a metric.
    """
    number = rule.number if rule else Number()
    every = all_groups(entries)
    choices = choose(rule, [entry.on("validation") for entry in entries]) if rule else []
    groups = chosen_groups(entries, choices) if rule else every
    shown = splits(entries)
    tables = [with_intervals(make_table(groups, split, number, columns)) for split in shown]
    tables = [with_tests(table) if table.split == "test" else table for table in tables]
    return ReportData(
        name=name,
        runs=tuple(entries),
        tables=tuple(tables),
        appendix=tuple(make_table(every, split, number, columns, True) for split in shown) if rule else (),
        choices=tuple(choices),
        comparisons=tuple(comparisons(tables[0])),
        notes=(*early_stops(entries), *one_class_runs(entries), *mixed_versions(entries)),
    )
