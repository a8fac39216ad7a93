"""table.tex and report.pdf, compiled by a real TeX where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hyperformer.errors import ConfigError
from launchers.report.latex.document import document, write_pdf
from launchers.report.latex.escape import escape
from launchers.report.latex.table import table_file
from launchers.report.report_data import (
    AVERAGE,
    TASK_AVERAGE,
    Cell,
    Column,
    Difference,
    Parameters,
    ReportData,
    Row,
    Table,
)

ODD = r"a_b & 50% <x> ${HOME} #1 ^~ \input{/etc/passwd} \write18{touch x} | \"q\" 'q' `q` -- é ß Ł 日本 ± † €"
MRPC_ACCURACY, MRPC_F1, COLA = ("mrpc", "acc"), ("mrpc", "f1"), ("cola", "mcc")
COLUMNS: tuple[Column, ...] = (MRPC_ACCURACY, MRPC_F1, COLA, AVERAGE, TASK_AVERAGE)


def row(label: str, value: float | None, is_best: bool = False, difference: Difference | None = None) -> Row:
    cell = (
        Cell(3, 3, value, 0.42, is_best=is_best, difference=difference) if value is not None else Cell(0, 3)
    )
    return Row(
        label,
        (),
        dict.fromkeys(COLUMNS, cell),
        cell,
        Parameters(2_000_000, 30_000, 0.75),
        3,
        3,
        (),
        gaps=(f"see {label}",),
    )


def report(label: str = "adapters") -> ReportData:
    worse = Difference(-3.0, -5.0, -1.0, 0.001, 0.01, 204)
    rows = (
        row("hyperformer++", 71.24, True),
        row(label, 68.0, difference=worse),
        row("finetune", None),
        row("x", -2.5),
        row("y", -0.04),
    )
    table = Table("test", COLUMNS, rows, "average over columns")
    return ReportData(label, (), (table,), (table,), notes=(label,))


def test_the_table_has_the_papers_form() -> None:
    lines = table_file(report().tables[0]).splitlines()
    assert any(line.startswith("% ± is the sample standard deviation") for line in lines)
    head = next(line for line in lines if line.startswith("variant"))
    assert "mrpc\\\\acc/f1" in head and "Avg\\\\over columns" in head and "Avg\\\\over tasks" in head
    best = r"\textbf{71.2}$_{\pm 0.4}$"
    assert (
        f"hyperformer++ & {best}/{best} & {best} & {best} & {best} & 3 & 2,000,000 & 30,000 & 0.75\\% \\\\"
        in lines
    )
    assert r"adapters & 68.0$_{\pm 0.4}$$^{\dagger}$/" in "\n".join(lines)
    assert "finetune & -- & -- & -- & -- & 0 of 3" in "\n".join(lines)
    assert r"x & $-$2.5$_{\pm 0.4}$/" in "\n".join(lines)
    assert r"y & 0.0$_{\pm 0.4}$/" in "\n".join(lines)  # and not -0.0


def test_no_character_of_a_name_is_a_command() -> None:
    text = escape(ODD)
    assert r"\input" not in text and r"\write" not in text and "\\textbackslash{}input" in text
    assert "${" not in document(report(ODD)).replace(r"\${", "")


def test_without_a_tex_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt install texlive-latex-recommended"):
        write_pdf(tmp_path / "report.pdf", report())
    assert not (tmp_path / "report.pdf").exists()


def test_a_real_tex_prints_every_number_and_odd_names(tmp_path: Path) -> None:
    if not (shutil.which("pdflatex") and shutil.which("pdftotext")):
        if os.environ.get("HYPERFORMER_REQUIRE_TEX"):
            pytest.fail("no pdflatex or pdftotext")
        pytest.skip("no pdflatex or pdftotext: nothing was compiled")
    path = tmp_path / "report.pdf"
    write_pdf(path, report(ODD))
    text = subprocess.run(
        ["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True
    ).stdout
    assert "71.2" in text and "68.0" in text and "2,000,000" in text
    for piece in (
        "a_b & 50% <x> ${HOME} #1 ^~ \\input{/etc/passwd} \\write18{touch x}",
        "--",
        "é ß Ł U+65E5U+672C ±",
    ):
        assert piece in text, piece
    assert list(tmp_path.iterdir()) == [path]
