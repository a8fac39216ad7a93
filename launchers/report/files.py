"""The results table as Markdown, as CSV, and for the screen."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from hyperformer.errors import clip
from hyperformer.files import atomic_write
from launchers.report.results_table import (
    AVERAGE,
    Cell,
    Column,
    Parameters,
    Row,
    RunResult,
    Table,
    make_table,
    splits,
)
from launchers.status.run_status import BAD

MISSING = "–"
PARAMETER_TITLES = ("parameters", "trained", "% per task")
_SHORT_METRICS = {"pearson_corrcoef": "pearson", "spearman_corrcoef": "spearman"}


def write_report(folder: Path, name: str, entries: Sequence[RunResult]) -> Path:
    """Write report.md, results.csv and runs.csv; returns the path of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = [make_table(entries, split) for split in splits(entries)]
    with atomic_write(folder / "report.md") as stream:
        stream.write(markdown(name, tables))
    with atomic_write(folder / "results.csv") as stream:
        csv.writer(stream, lineterminator="\n").writerows(_result_rows(tables))
    with atomic_write(folder / "runs.csv") as stream:
        csv.writer(stream, lineterminator="\n").writerows(_run_rows(entries, tables))
    return folder / "report.md"


def column_name(column: Column) -> str:
    """'cola mcc', 'Avg'."""
    return " ".join(part for part in (column[0], _SHORT_METRICS.get(column[1], column[1])) if part)


def cell_text(cell: Cell) -> str:
    """'71.2', '71.2 ±0.4' over several seeds, '71.2*' over fewer than planned, '–' for none."""
    if cell.mean is None:
        return MISSING
    spread = "" if cell.std is None else f" ±{cell.std:.1f}"
    return f"{cell.mean:.1f}{spread}{'*' if cell.n < cell.planned else ''}"


def footnotes(table: Table) -> list[str]:
    """What the table's marks mean, and what is missing from it."""
    cells = [cell for row in table.rows for cell in row.cells.values()]
    notes = [f"Do not compare: {text}." for text in table.warnings]
    if any(cell.std is not None for cell in cells):
        notes.append("± is the sample standard deviation over seeds; n is the number of seeds.")
    if any(cell.mean is not None and cell.n < cell.planned for cell in cells):
        notes.append("* over fewer seeds than planned.")
    for row in table.rows:
        if row.unfinished:
            notes.append(f"{row.label}: {_unfinished(row)}.")
    return notes


def markdown(name: str, tables: Sequence[Table]) -> str:
    """The report as Markdown."""
    lines = [f"# Results of {name}", "", f"Written {time.strftime('%Y-%m-%d %H:%M')}. Values are percent."]
    for table in tables:
        what = (
            "the checkpoint chosen on validation" if table.split == "test" else "what the choice was made on"
        )
        header = ["variant", *map(column_name, table.columns), "n", *PARAMETER_TITLES]
        lines += ["", f"## {table.split.capitalize()} ({what})", "", _markdown_row(header)]
        lines.append(_markdown_row(["---", *["---:"] * (len(header) - 1)]))
        for row in table.rows:
            values = [cell_text(row.cells[column]) for column in table.columns]
            values += [seeds_text(row), *parameter_texts(row.parameters)]
            lines.append(_markdown_row([row.label, *values]))
        notes = footnotes(table)
        lines += ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def seeds_text(row: Row) -> str:
    """'3', or where results are missing '1 of 3', '0–2 of 3': of the cell with the fewest, and with the most."""
    cells = [cell for cell in row.cells.values() if cell.planned]
    least, most = min(cell.n for cell in cells), max(cell.n for cell in cells)
    planned = max(cell.planned for cell in cells)
    if all(cell.n == cell.planned for cell in cells):
        return str(most)
    return f"{least if least == most else f'{least}–{most}'} of {planned}"


def _unfinished(row: Row) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, state, reason in row.unfinished:
        groups.setdefault((state, reason if state in BAD else ""), []).append(name)
    told = [
        f"{state}: {', '.join(names)}{f' ({clip(reason, 120)})' if reason else ''}"
        for (state, reason), names in groups.items()
    ]
    return f"{len(row.unfinished)} of {row.planned} runs have no result; {'; '.join(told)}"


def _markdown_row(values: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"


def parameter_texts(parameters: Parameters | None) -> tuple[str, str, str]:
    if parameters is None:
        return MISSING, MISSING, MISSING
    return f"{parameters.total:,}", f"{parameters.trained:,}", f"{parameters.percent_per_task:.2f}%"


def result_records(entries: Sequence[RunResult]) -> list[dict[str, Any]]:
    """The lines of results.csv, each as a dict; None is a missing value."""
    header, *lines = _result_rows([make_table(entries, split) for split in splits(entries)])
    return [dict(zip(header, line, strict=True)) for line in lines]


def _result_rows(tables: Sequence[Table]) -> Iterator[list[Any]]:
    """A line a row and split, numbers unrounded; an empty field is a missing one."""
    keys = list(dict.fromkeys(key for row in tables[0].rows for key, _ in row.settings))
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    names = [column_name(column) for column in columns]
    header = ["split", "variant", *keys]
    for name in names:
        header += [name, f"{name} std", f"{name} n"]
    parameters = ("parameters", "trained", "trained_percent_per_task")
    yield [*header, *parameters, "runs_done", "runs_planned", "warnings"]
    for table in tables:
        for row in table.rows:
            line: list[Any] = [table.split, row.variant, *(dict(row.settings).get(key) for key in keys)]
            for column in columns:
                cell = row.cells.get(column, Cell(0, 0))
                line += [cell.mean, cell.std, cell.n]
            line += astuple(row.parameters) if row.parameters else (None, None, None)
            yield [*line, row.done, row.planned, "; ".join(table.warnings) or None]


def _run_rows(entries: Sequence[RunResult], tables: Sequence[Table]) -> Iterator[list[Any]]:
    """A line a run."""
    keys = list(dict.fromkeys(key for entry in entries for key, _ in entry.run.differs if key != "seed"))
    columns = [(table.split, column) for table in tables for column in table.columns if column != AVERAGE]
    header = ["run", "signature", "state", "variant", *keys, "seed", "tasks"]
    header += [f"{split} {column_name(column)}" for split, column in columns]
    yield [*header, "test_average", "validation_average", "trained", "best_step", "seconds", "folder"]
    for entry in entries:
        run, result = entry.run, entry.result or {}
        metrics = {(split, column): value for split in ("test", "validation")
                   for column, value in entry.metrics(split).items()}  # fmt: skip
        line: list[Any] = [run.name, run.signature, entry.status.state, run.config.variant]
        line += [dict(run.differs).get(key) for key in keys]
        line += [run.config.seed, " ".join(run.config.data.tasks)]
        line += [metrics.get(column) for column in columns]
        line += [result.get("test_average"), result.get("validation_average")]
        line += [(result.get("parameters") or {}).get("trained"), result.get("best_step")]
        yield [*line, _seconds(result), entry.status.folder]


def _seconds(result: dict[str, Any]) -> float | None:
    """Of training and evaluation, over all attempts."""
    seconds = result.get("seconds") or {}
    return seconds["train"] + seconds["evaluate"] if {"train", "evaluate"} <= set(seconds) else None
