"""Whether the files of a report say what the runs' results say: each is made again, and compared.

Numbers of CSV files may differ by the rounding of another processor. All else must be equal, line by line.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from hyperformer.errors import clip
from launchers.report.csv_files import result_lines, run_lines
from launchers.report.latex.table import LATEX, table_file
from launchers.report.markdown import markdown
from launchers.report.report_data import ReportData

_MOST_TOLD = 10
_ROUNDING = 1e-9
_WRITTEN = "Written "
"""How the line begins that says when the report was written."""


def report_faults(report: Path, data: ReportData, moved: tuple[str, str] = ("", "")) -> Iterator[str]:
    """Each place where a file of a report is not what these data give.

    Args:
        report: the folder.
        data: the numbers as they must be.
        moved: the folder of the runs in `data`, and the one that the report names.
    """
    for name, lines in _texts(data).items():
        yield from _differences(report / name, _read(report / name), lines)
    for name, table in _tables(data).items():
        again = [
            [_as_text(value).replace(*moved) if moved[0] else _as_text(value) for value in line]
            for line in table
        ]
        yield from _differences(report / name, _read_csv(report / name), again)
    if not data.appendix and (report / "settings.csv").exists():
        yield f"{report.name}/settings.csv: the sweep chooses no settings, so there is no such file"


def count_numbers(data: ReportData) -> int:
    """How many numbers of CSV files are compared."""
    return sum(
        _number(_as_text(value)) is not None
        for table in _tables(data).values()
        for line in table
        for value in line
    )


def _texts(data: ReportData) -> dict[str, list[str]]:
    """The files of text."""
    found = {"report.md": markdown(data), LATEX: table_file(data.tables[0])}
    return {name: text.splitlines() for name, text in found.items()}


def _tables(data: ReportData) -> dict[str, list[list[Any]]]:
    """The CSV files."""
    found = {"results.csv": list(result_lines(data.tables)), "runs.csv": list(run_lines(data))}
    return found | ({"settings.csv": list(result_lines(data.appendix))} if data.appendix else {})


def _as_text(value: Any) -> str:
    """A value as :mod:`csv` writes it."""
    return "" if value is None else str(value)


def _read(path: Path) -> list[str] | None:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else None


def _read_csv(path: Path) -> list[list[str]] | None:
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        return [[f"not CSV: {error}"]]


def _differences(path: Path, there: Sequence[Any] | None, again: Sequence[Any]) -> Iterator[str]:
    """What differs in one file, a line each."""
    name = f"{path.parent.name}/{path.name}"
    if there is None:
        yield f"{name}: is missing"
        return
    found = [f"{name}, {line}" for line in _lines(there, again)]
    yield from found[:_MOST_TOLD]
    if len(found) > _MOST_TOLD:
        yield f"{name}: and {len(found) - _MOST_TOLD} more differences"


def _lines(there: Iterable[Any], again: Sequence[Any]) -> Iterator[str]:
    for number, (old, new) in enumerate(zip_longest(there, again), start=1):
        if old is None or new is None:
            what = "was added" if new is None else "is missing"
            yield f"line {number} {what}: {clip(str(old if new is None else new), 160)}"
        elif isinstance(old, str):
            if old != new and not (old.startswith(_WRITTEN) and new.startswith(_WRITTEN)):
                old, new = _first_difference(old, new)
                yield f"line {number}: has {clip(old, 160)!r}, the answers give {clip(new, 160)!r}"
        else:
            yield from (f"line {number}: {told}" for told in _cells(old, new, again[0]))


def _first_difference(old: str, new: str) -> tuple[str, str]:
    """The first cell of a table that differs, or the whole lines."""
    cells = old.split(" | "), new.split(" | ")
    if len(cells[0]) != len(cells[1]):
        return old, new
    return next((pair for pair in zip(*cells, strict=True) if pair[0] != pair[1]), (old, new))


def _cells(old: Sequence[str], new: Sequence[str], header: Sequence[str]) -> Iterator[str]:
    for column, (mine, theirs) in enumerate(zip_longest(old, new)):
        if mine != theirs and not _is_close(mine, theirs):
            name = header[column] if column < len(header) else f"column {column + 1}"
            yield f"{name}: has {mine or 'nothing'}, the answers give {theirs or 'nothing'}"


def _is_close(one: str | None, other: str | None) -> bool:
    numbers = _number(one), _number(other)
    return None not in numbers and math.isclose(*numbers, rel_tol=_ROUNDING)  # type: ignore[arg-type]


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
