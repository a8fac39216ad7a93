"""A results table for a paper: `\\input{table}`, with booktabs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from launchers.report.latex.escape import escape
from launchers.report.report_data import AVERAGES, Cell, Column, Row, Table
from launchers.report.text import (
    MISSING,
    PARAMETER_TITLES,
    column_names,
    footnotes,
    parameter_texts,
    seeds_text,
    table_title,
)

LATEX = "table.tex"


def table_file(table: Table) -> str:
    """table.tex: the table, below comments that say what a caption must say."""
    lines = [
        r"% Needs \usepackage{booktabs}. Values are percent. \textbf: the best of its column.",
        *(f"% {_one_line(note)}" for note in [table_title(table), *footnotes(table)]),
        *tabular(table),
    ]
    return "\n".join(lines) + "\n"


def tabular(table: Table) -> Iterator[str]:
    """The lines of the tabular environment: the metrics of a task share a column, as in the paper."""
    groups = [list(columns) for _, columns in groupby(table.columns, _group)]
    head = ["variant", *(["chosen"] if table.has_choices else [])]
    tail = [*([table.validation_name] if table.has_choices else []), "n", *PARAMETER_TITLES]
    yield rf"\begin{{tabular}}{{{'l' * len(head)}{'c' * len(groups)}{'r' * len(tail)}}}"
    yield r"\toprule"
    yield _line([*map(escape, head), *map(_title, groups), *map(_in_two_lines, tail)])
    for block in table.blocks:
        yield r"\midrule"
        yield from (_line(list(_values(row, groups, table.has_choices))) for row in block)
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _values(row: Row, groups: list[list[Column]], has_choices: bool) -> Iterator[str]:
    yield escape(row.label)
    if has_choices:
        yield escape(row.chosen_label or MISSING)
    for columns in groups:
        cells = [row.cells[column] for column in columns]
        none = all(cell.mean is None for cell in cells)
        yield escape(MISSING) if none else "/".join(map(_cell, cells))
    if has_choices:
        yield _cell(row.validation)
    yield escape(seeds_text(row))
    yield from map(escape, parameter_texts(row.parameters))


def _cell(cell: Cell) -> str:
    r"""'\textbf{71.2}$_{\pm 0.4}$'; marks as `text.cell_text` has them."""
    if cell.mean is None:
        return escape(MISSING)
    value = f"{cell.mean:z.1f}".replace("-", "$-$")
    text = rf"\textbf{{{value}}}" if cell.is_best else value
    if cell.std is not None:
        text += rf"$_{{\pm {cell.std:.1f}}}$"
    marks = "" if cell.is_complete else "*"
    marks += r"\dagger" if cell.difference is not None and cell.difference.is_significant else ""
    return f"{text}$^{{{marks}}}$" if marks else text


def _group(column: Column) -> Column | str:
    """What shares a column of the paper: the metrics of one task; an average has its own column."""
    return column if column in AVERAGES else column[0]


def _in_two_lines(name: str) -> str:
    """'validation average' above 'over tasks': a long heading makes all else small."""
    what, over, rest = name.partition(" over ")
    return _stack(what, f"over {rest}") if over else escape(name)


def _title(columns: list[Column]) -> str:
    r"""'mrpc' above 'accuracy/f1'."""
    task = columns[0][0]
    names = "/".join(name.removeprefix(task).strip() for name in column_names(columns))
    return _stack(task, names)


def _stack(upper: str, lower: str) -> str:
    return rf"\begin{{tabular}}{{@{{}}c@{{}}}}{escape(upper)}\\{escape(lower)}\end{{tabular}}"


def _line(values: list[str]) -> str:
    return " & ".join(values) + r" \\"


def _one_line(text: str) -> str:
    return " ".join(text.split())
