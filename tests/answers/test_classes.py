"""Precision, recall and confusion of the classes; what is no label is a class of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from answers.kept_runs import example_pairs, write_run
from places import ROOT

from hyperformer.answers.classes import class_report, class_table, one_class
from hyperformer.answers.files import read_answers
from hyperformer.cli import main
from hyperformer.data.tasks import TASKS, Task

PAIRS = [("0", "0"), ("0", "1"), ("0", "no label"), ("1", "1"), ("1", "1"), ("2", "0")]


def test_counts_and_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", (TASKS["mnli"], PAIRS))
    report = class_report(read_answers(run, "test", "mnli"))
    assert report is not None and report.classes == ("0", "1", "2", "invalid")
    assert report.confusion == ((1, 1, 0, 1), (0, 2, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0))
    assert report.rows == (3, 2, 1)
    assert report.precision == pytest.approx((50, 200 / 3, 0)) and report.recall == pytest.approx(
        (100 / 3, 100, 0)
    )
    assert report.f1 == pytest.approx((40, 80, 0))
    assert len(class_table(report).splitlines()) == 4  # no row has an invalid right answer
    assert main(["rescore", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "test mnli: 6 rows: acc 50.0" in printed and "test average over columns: 50.0" in printed
    lines = [line.split() for line in printed.splitlines()]
    assert ["0", "50.00", "33.33", "40.00", "3", "|", "1", "1", "0", "1"] in lines


def test_numbers_count_as_the_metrics_read_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (TASKS["cola"], [("1", " 01"), ("0", "-1"), ("0", "7")]))
    report = class_report(read_answers(run, "test", "cola"))
    assert report is not None and report.confusion == ((0, 0, 2), (0, 1, 0), (0, 0, 0))


def test_a_label_that_is_called_invalid(tmp_path: Path) -> None:
    task = Task("mine", "{x}", "y", ("accuracy",), ("valid", "invalid"))
    run = write_run(tmp_path / "run", (task, [("valid", "invalid"), ("invalid", "?")]))
    report = class_report(read_answers(run, "test", "mine"))
    assert report is not None and report.classes == ("valid", "invalid", "none of the labels")
    assert report.confusion == ((0, 1, 0), (0, 0, 1), (0, 0, 0))


@pytest.mark.parametrize(
    ("name", "pairs", "answer"),
    [
        ("mnli", PAIRS, None),
        ("mnli", [("0", "2"), ("1", "2"), ("2", " 2")], "2"),
        ("mnli", [("0", "what"), ("1", ""), ("2", "9")], "invalid"),
        ("mnli", [("1", "1"), ("1", "1")], None),  # the right answers are of one class
        ("stsb", [("1.0", "3.0"), ("2.0", "3.0")], None),
    ],
)
def test_one_class_for_all_rows(
    name: str, pairs: list[tuple[str, str]], answer: str | None, tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", (TASKS[name], pairs))
    found = one_class({name: read_answers(run, "test", name)})
    assert found == ({} if answer is None else {name: answer})


@pytest.mark.parametrize("name", ["stsb", "wmt16-ro-en"])
def test_scores_and_free_text_have_no_classes(name: str, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (TASKS[name], example_pairs(TASKS[name])))
    assert class_report(read_answers(run, "test", name)) is None


def test_the_report_can_read_answers_without_torch() -> None:
    names = ", ".join(
        f"hyperformer.answers.{path.stem}" for path in (ROOT / "hyperformer/answers").glob("*.py")
    )
    code = f"import sys, {names}; print({{'torch', 'transformers', 'sklearn'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"
