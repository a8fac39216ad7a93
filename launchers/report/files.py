"""The files of the report folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hyperformer.files import atomic_write
from launchers.report.csv_files import result_lines, run_lines
from launchers.report.figures.charts import Figure, figures
from launchers.report.figures.class_counts import confusions
from launchers.report.figures.embeddings import embedding_maps
from launchers.report.figures.render import can_draw, pdf_path, write_pdfs
from launchers.report.latex.document import Picture, write_pdf
from launchers.report.latex.table import table_file
from launchers.report.markdown import markdown
from launchers.report.page.make_page import page
from launchers.report.report_data import ReportData

FIGURES = "figures"


def write_report(folder: Path, data: ReportData) -> Path:
    """Write index.html, report.md, table.tex, the figures and the CSV files; returns the path of index.html.

    Figures are left out where the extra `report` is not installed; the page says so.
    table.tex has the first table; results.csv has the rows of the tables, runs.csv each run, settings.csv (with
    `select:`) all settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw(data)
    with atomic_write(folder / "index.html") as stream:
        stream.write(page(data, drawn, folder))
    write_pdfs(folder / FIGURES, drawn or ())
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
    return folder / "index.html"


def write_report_pdf(folder: Path, data: ReportData) -> Path:
    """Write report.pdf with the figures that `write_report` has put there; returns its path.

    Raises:
        ConfigError: no TeX is installed.
        HyperformerError: TeX does not take the document.
    """
    paths = [(pdf_path(folder / FIGURES, each), each) for each in draw(data) or ()]
    pictures = [Picture(path, f"{each.title}. {each.caption}") for path, each in paths if path.exists()]
    write_pdf(folder / "report.pdf", data, pictures)
    return folder / "report.pdf"


def draw(data: ReportData) -> list[Figure] | None:
    """The figures of a report; None: they cannot be drawn here."""
    if not can_draw():
        return None
    return list(figures(data, list(embedding_maps(data)), list(confusions(data))))


def _write_csv(path: Path, lines: Iterable[list[Any]]) -> None:
    with atomic_write(path) as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
