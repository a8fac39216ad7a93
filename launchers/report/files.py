"""The files of the report folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hyperformer.files import atomic_write
from launchers.report.csv_files import result_lines, run_lines
from launchers.report.latex.table import table_file
from launchers.report.markdown import markdown
from launchers.report.report_data import ReportData


def write_report(folder: Path, data: ReportData) -> Path:
    """Write report.md, table.tex and the CSV files; returns the path of report.md.

    table.tex has the first table; results.csv has the rows of the tables, runs.csv each run, settings.csv (with
    `select:`) all settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "report.md") as stream:
        stream.write(markdown(data))
    with atomic_write(folder / "table.tex") as stream:
        stream.write(table_file(data.tables[0]))
    _write_csv(folder / "results.csv", result_lines(data.tables))
    _write_csv(folder / "runs.csv", run_lines(data))
    if data.appendix:
        _write_csv(folder / "settings.csv", result_lines(data.appendix))
    else:  # of an earlier version of the sweep file
        (folder / "settings.csv").unlink(missing_ok=True)
    return folder / "report.md"


def _write_csv(path: Path, lines: Iterable[list[Any]]) -> None:
    with atomic_write(path) as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
