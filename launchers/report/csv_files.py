"""The report as CSV: numbers are not rounded, and an empty field is a missing one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

from launchers.report.report_data import AVERAGES, Cell, ReportData, Table
from launchers.report.text import column_names


def result_records(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """The lines of results.csv, each as a dict; None is a missing value."""
    header, *lines = result_lines(tables)
    return [dict(zip(header, line, strict=True)) for line in lines]


def result_lines(tables: Sequence[Table]) -> Iterator[list[Any]]:
    """A line per row and split, below a header."""
    keys = list(dict.fromkeys(key for row in tables[0].rows for key, _ in row.settings))
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    header = ["split", "variant", *keys, "chosen"]
    for name in [*column_names(columns), tables[0].validation_name]:
        header += [name, *(f"{name} {what}" for what in ("std", "n", "low", "high", "p"))]
    parameters = ("parameters", "trained", "trained_percent_per_task")
    yield [*header, *parameters, "runs_done", "runs_planned", "warnings"]
    for table in tables:
        for row in table.rows:
            line: list[Any] = [table.split, row.variant, *(dict(row.settings).get(key) for key in keys)]
            line.append(row.chosen_label or None)
            for cell in [*(row.cells.get(column, Cell(0, 0)) for column in columns), row.validation]:
                interval, difference = cell.interval, cell.difference
                line += [cell.mean, cell.std, cell.n]
                line += [interval.low, interval.high] if interval else [None, None]
                line.append(difference.p_holm if difference else None)
            line += astuple(row.parameters) if row.parameters else (None, None, None)
            yield [*line, row.done, row.planned, "; ".join(table.warnings) or None]


def run_lines(data: ReportData) -> Iterator[list[Any]]:
    """A line per run, below a header."""
    keys = list(dict.fromkeys(key for entry in data.runs for key, _ in entry.run.differs if key != "seed"))
    tables = data.appendix or data.tables
    columns = [
        (table.split, *column) for table in tables for column in table.columns if column not in AVERAGES
    ]
    header = ["run", "signature", "state", "variant", *keys, "seed", "tasks"]
    for table in tables:
        names = column_names([column for column in table.columns if column not in AVERAGES])
        header += [f"{table.split} {name}" for name in names]
    averages = ["test_average", "validation_average"]
    yield [*header, *averages, "trained", "best_step", "steps", "seconds", "folder"]
    for entry in data.runs:
        run, result = entry.run, entry.result or {}
        line: list[Any] = [run.name, run.signature, entry.status.state, run.config.variant]
        line += [dict(run.differs).get(key) for key in keys]
        line += [run.config.seed, " ".join(run.config.data.tasks)]
        line += [entry.metrics(split).get(task, {}).get(metric) for split, task, metric in columns]
        line += [result.get(key) for key in averages]
        line += [
            (result.get("parameters") or {}).get("trained"),
            result.get("best_step"),
            result.get("steps"),
        ]
        yield [*line, _seconds(result), entry.status.folder]


def _seconds(result: dict[str, Any]) -> float | None:
    """Of training and evaluation, over all attempts."""
    seconds = result.get("seconds") or {}
    return seconds["train"] + seconds["evaluate"] if {"train", "evaluate"} <= set(seconds) else None
