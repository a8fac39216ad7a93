"""The report as Markdown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from launchers.report.report_data import AVERAGES, Cell, ReportData, Table
from launchers.report.text import (
    COMPARISON_TITLES,
    PARAMETER_TITLES,
    cell_text,
    choice_text,
    column_name,
    column_names,
    comparison_notes,
    comparison_texts,
    footnotes,
    interval_text,
    parameter_texts,
    seed_notes,
    seeds_text,
    table_title,
)


def markdown(data: ReportData) -> str:
    """The whole report; the best value of a column is bold."""
    lines = [
        f"# Results of {data.name}",
        "",
        f"Written {time.strftime('%Y-%m-%d %H:%M')}. Values are percent.",
    ]
    lines += _list(data.notes)
    for table in data.tables:
        lines += _table(table)
    lines += _over_seeds(data)
    lines += _comparisons(data)
    if data.choices:
        lines += ["", "## Chosen settings", *_list([choice_text(choice) for choice in data.choices])]
    if data.appendix:
        lines += ["", "# Appendix"]
    for table in data.appendix:
        lines += _table(table)
    return "\n".join(lines) + "\n"


def _table(table: Table) -> Iterator[str]:
    header = ["variant", *(["chosen"] if table.has_choices else []), *column_names(table.columns)]
    header += [*([table.validation_name] if table.has_choices else []), "n", *PARAMETER_TITLES]
    yield from ("", f"## {table_title(table)}", "", _line(header))
    yield _line(["---", *["---:"] * (len(header) - 1)])
    for row in table.rows:
        values = [row.label, *([row.chosen_label] if table.has_choices else [])]
        values += [_bold(row.cells[column]) for column in table.columns]
        values += [cell_text(row.validation)] if table.has_choices else []
        yield _line([*values, seeds_text(row), *parameter_texts(row.parameters)])
    yield from _list(footnotes(table))


def _over_seeds(data: ReportData) -> Iterator[str]:
    """Averages with their intervals, and the best row against the others."""
    table = data.tables[0]
    if not seed_notes(table):
        return
    header = [
        "variant",
        "n",
        *(f"{column_name(column)}{what}" for column in AVERAGES for what in ("", ", 95% interval")),
    ]
    yield from ("", f"## Over seeds ({table.split})", "", _line(header))
    yield _line(["---", *["---:"] * (len(header) - 1)])
    for row in table.rows:
        values = [text for column in AVERAGES for text in _with_interval(row.cells[column])]
        yield _line([row.label, seeds_text(row), *values])
    yield from _list(seed_notes(table))


def _comparisons(data: ReportData) -> Iterator[str]:
    if data.comparisons:
        yield from ("", "## Comparisons", "", _line(COMPARISON_TITLES))
        yield _line(["---", "---", *["---:"] * (len(COMPARISON_TITLES) - 2)])
        yield from (_line(comparison_texts(one)) for one in data.comparisons)
        yield from _list(list(comparison_notes(data.comparisons)))


def _with_interval(cell: Cell) -> tuple[str, str]:
    return cell_text(cell), interval_text(cell.interval)


def _bold(cell: Cell) -> str:
    return f"**{cell_text(cell)}**" if cell.is_best else cell_text(cell)


def _list(lines: Sequence[str]) -> list[str]:
    return ["", *(f"- {line}" for line in lines)] if lines else []


def _line(values: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"
