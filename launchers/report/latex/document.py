"""The report as a document that LaTeX compiles: report.pdf."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.files import atomic_write
from launchers.report.latex.escape import escape
from launchers.report.latex.table import tabular
from launchers.report.report_data import ReportData, Table
from launchers.report.text import (
    COMPARISON_TITLES,
    choice_text,
    comparison_notes,
    comparison_texts,
    footnotes,
    seed_notes,
    table_title,
)

_SECONDS = 180
_LINES = 25
"""Of a table that may be longer than a page."""
_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage{cmap}
\usepackage[T1]{fontenc}
\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}
\usepackage[utf8]{inputenc}
\usepackage{textcomp}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\sloppy
\newsavebox{\wide}
% As wide as the page at most; a narrow table keeps its size.
\newenvironment{fit}{\begin{lrbox}{\wide}}{\end{lrbox}%
  \ifdim\wd\wide>\linewidth\resizebox{\linewidth}{!}{\usebox{\wide}}\else\usebox{\wide}\fi}
% Two figures below each other on a page; one that is taller than wide, having many names, needs more to be read.
\newcommand{\figurefile}[1]{\sbox{\wide}{\includegraphics{#1}}%
  \includegraphics[width=\linewidth,height=\ifdim\ht\wide>\wd\wide 0.75\else 0.4\fi\textheight,keepaspectratio]{#1}}
\begin{document}
"""


@dataclass(frozen=True)
class Picture:
    """A figure of the document: a PDF, and its caption."""

    path: Path
    caption: str


def document(data: ReportData, pictures: Sequence[Picture] = ()) -> str:
    """The LaTeX source. Pictures are named by file name: compile beside them."""
    lines = [rf"\section*{{Results of {escape(data.name)}}}", *_notes(data.notes)]
    for table in data.tables:
        lines += _table(table)
    lines += _comparisons(data)
    lines += _section("Chosen settings", [choice_text(each) for each in data.choices])
    for picture in pictures:
        lines += [
            r"\begin{minipage}[t]{0.48\linewidth}\vspace{0pt}\centering",
            rf"\figurefile{{{picture.path.name}}}\\",
            rf"{escape(picture.caption)}\vspace{{8pt}}",
            r"\end{minipage}\hfill",
        ]
    if data.appendix:
        lines += [r"\clearpage", r"\section*{Appendix}"]
    for table in data.appendix:
        lines += _table(table)
    return _PREAMBLE + "\n".join(lines) + "\n\\end{document}\n"


def write_pdf(path: Path, data: ReportData, pictures: Sequence[Picture] = ()) -> None:
    """Compile the document; an earlier PDF stays until the new one is complete.

    Raises:
        ConfigError: no TeX is installed.
        HyperformerError: TeX does not take the document; the message has its error.
    """
    compiler = shutil.which("pdflatex")
    if compiler is None:
        raise ConfigError(
            "--pdf needs a TeX, and there is no pdflatex on PATH. "
            "On Debian: apt install texlive-latex-recommended lmodern. table.tex and the figures need none"
        )
    with tempfile.TemporaryDirectory(prefix="hyperformer-pdf-") as name:
        folder = Path(name)
        for picture in pictures:
            shutil.copyfile(picture.path, folder / picture.path.name)
        (folder / "report.tex").write_text(document(data, pictures), encoding="utf-8")
        pdf = _compile(compiler, folder)
        with atomic_write(path, "wb") as stream:
            stream.write(pdf.read_bytes())


def _compile(compiler: str, folder: Path) -> Path:
    # A name of a run must not become a command (shell escape), nor read a file outside (paranoid).
    environment = {**os.environ, "openin_any": "p", "openout_any": "p", "max_print_line": "1000"}
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HyperformerError(f"{compiler} did not compile the report: {error}") from error
    pdf = folder / "report.pdf"
    if done.returncode or not pdf.is_file():
        said = (done.stdout + done.stderr).decode(errors="replace").splitlines()
        fault = next(
            (index for index, line in enumerate(said) if line.startswith("!")), max(len(said) - 5, 0)
        )
        raise HyperformerError(
            f"{compiler} did not compile the report (exit code {done.returncode}): "
            + " / ".join(line.strip() for line in said[fault : fault + 5] if line.strip())
        )
    return pdf


def _table(table: Table) -> Iterator[str]:
    yield rf"\subsection*{{{escape(table_title(table))}}}"
    yield r"\begin{fit}"
    yield from tabular(table)
    yield r"\end{fit}"
    yield ""
    yield from _notes([*footnotes(table), *seed_notes(table)])


def _comparisons(data: ReportData) -> Iterator[str]:
    if data.comparisons:
        yield r"\subsection*{Comparisons}"
        for first in range(0, len(data.comparisons), _LINES):
            yield rf"\begin{{tabular}}{{ll{'r' * (len(COMPARISON_TITLES) - 2)}}}\toprule"
            yield _cells(COMPARISON_TITLES) + r"\midrule"
            yield from (_cells(comparison_texts(one)) for one in data.comparisons[first : first + _LINES])
            yield "\\bottomrule\n\\end{tabular}\n"
        yield from _notes(list(comparison_notes(data.comparisons)))


def _cells(texts: Sequence[str]) -> str:
    return " & ".join(map(escape, texts)) + r" \\"


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [rf"\subsection*{{{title}}}", *_notes(lines)] if lines else []


def _notes(lines: Sequence[str]) -> list[str]:
    return [f"{escape(line)}\n" for line in lines]
