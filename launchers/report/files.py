"""The files of the report folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hyperformer.files import atomic_write, sweep_leftovers
from launchers.report.csv_files import result_lines, run_lines
from launchers.report.figures.charts import Figure, figures
from launchers.report.figures.class_counts import confusions
from launchers.report.figures.embeddings import embedding_maps
from launchers.report.figures.render import can_draw, write_pdfs
from launchers.report.latex.document import Picture, write_pdf
from launchers.report.latex.table import LATEX, table_file
from launchers.report.markdown import markdown
from launchers.report.page.make_page import page
from launchers.report.report_data import ReportData

PAGE, FIGURES, PDF = "index.html", "figures", "report.pdf"
_HAS_FIGURES = b'id="figure-data"'  # as page.html.j2 has it


def write_page(folder: Path, data: ReportData, by: str) -> list[Figure] | None:
    """Write index.html alone; returns its figures, None where they cannot be drawn.

    Args:
        by: who writes it, for the page to say.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep_leftovers(folder)
    drawn = draw(data)
    with atomic_write(folder / PAGE) as stream:
        stream.write(page(data, drawn, folder, by))
    return drawn


def would_lose_figures(folder: Path) -> bool:
    """Whether the page has figures that cannot be drawn here."""
    path = folder / PAGE
    return not can_draw() and path.is_file() and _HAS_FIGURES in path.read_bytes()


def write_report(folder: Path, data: ReportData, with_pdf: bool = False) -> Path:
    """Write index.html, report.md, table.tex, the figures and the CSV files; returns the path of index.html.

    Figures are left out where the extra `report` is not installed; the page says so.
    table.tex has the first table; results.csv has the rows of the tables, runs.csv each run, settings.csv (with
    `select:`) all settings.

    Args:
        with_pdf: last, compile report.pdf too, which needs a TeX.

    Raises:
        ConfigError: there is no TeX; all else was written.
        HyperformerError: TeX does not take the document; all else was written.
    """
    drawn = write_page(folder, data, "report")
    pdfs = write_pdfs(folder / FIGURES, drawn or ())
    with atomic_write(folder / "report.md") as stream:
        stream.write(markdown(data))
    with atomic_write(folder / LATEX) as stream:
        stream.write(table_file(data.tables[0]))
    _write_csv(folder / "results.csv", result_lines(data.tables))
    _write_csv(folder / "runs.csv", run_lines(data))
    if data.appendix:
        _write_csv(folder / "settings.csv", result_lines(data.appendix))
    else:  # of an earlier version of the sweep file
        (folder / "settings.csv").unlink(missing_ok=True)
    if with_pdf:
        captions = [f"{figure.title}. {figure.caption}" for figure in drawn or ()]
        write_pdf(folder / PDF, data, list(map(Picture, pdfs, captions)))
    return folder / PAGE


def draw(data: ReportData) -> list[Figure] | None:
    """The figures of a report; None: they cannot be drawn here."""
    if not can_draw():
        return None
    return list(figures(data, list(embedding_maps(data)), list(confusions(data))))


def _write_csv(path: Path, lines: Iterable[list[Any]]) -> None:
    with atomic_write(path) as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
