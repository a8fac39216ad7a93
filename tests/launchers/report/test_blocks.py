"""Studies with few rows of new tasks: runs of different tasks share rows, and only rows given the same are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperformer.files import write_json
from launchers.plan.plan import Plan
from launchers.report.figures.series import row_curves, trade_offs
from launchers.report.latex.table import table_file
from launchers.report.make_report import make_report
from launchers.report.report_data import AVERAGE, ReportData
from launchers.report.results import collect
from launchers.report.text import footnotes, seeds_text
from launchers.status.read_status import read_statuses
from launchers.store.ledger import Ledger

SWEEP = """
    variants: [finetune, hyperformer++]
    grid: {tasks: [[cola], [mrpc]], n_train: [10, 20, 100, 2000], seed: [1, 2]}
    exclude: [{tasks: [cola], n_train: 10}, {tasks: [mrpc], n_train: 2000}]
    """


def report_of(plan: Plan, folder: Path) -> ReportData:
    """The more rows the better; finetune is better on cola, and trains more."""
    ledger = Ledger(plan, folder)
    for run in plan.runs:
        (task,) = run.config.data.tasks
        better = (run.config.variant == "finetune") == (task == "cola")
        score = {
            "mcc" if task == "cola" else "f1": run.config.data.n_train**0.5 + run.config.seed + 5 * better
        }
        ledger.folder(run).mkdir(parents=True)
        percent = 100.0 if run.config.variant == "finetune" else 1.0
        result = {"signature": run.signature, "test": {task: score}, "validation": {task: score}}
        result["parameters"] = {"total": 2, "trained": 1, "trained_percent_per_task": percent}
        write_json(ledger.folder(run) / "result.json", result)
    return make_report("s", collect(ledger, read_statuses(ledger, plan.runs)[0]), plan.select)


@pytest.fixture
def data(plan_of: Callable[[str], Plan], tmp_path: Path) -> ReportData:
    return report_of(plan_of(SWEEP), tmp_path / "runs")


def test_runs_of_different_tasks_share_a_row(data: ReportData) -> None:
    table = data.tables[0]
    assert [row.label for row in table.rows] == [
        f"{variant} n_train={rows}"
        for rows in (10, 20, 100, 2000)
        for variant in ("finetune", "hyperformer++")
    ]  # by the number of rows, though cola, the first task, has no 10
    assert [seeds_text(row) for row in table.rows] == ["2"] * 8  # what the sweep leaves out is not missing
    assert [row.cells[AVERAGE].n for row in table.rows] == [0, 0, 2, 2, 2, 2, 0, 0]
    told = footnotes(table)
    assert (
        "finetune n_train=10, hyperformer++ n_train=10: no run trains cola, so there is no average." in told
    )
    assert not [note for note in told if note.startswith("*")]


def test_only_rows_with_as_many_training_rows_are_compared(data: ReportData) -> None:
    table = data.tables[0]
    best = {
        column: [row.label for row in table.rows if row.cells[column].is_best] for column in table.columns
    }
    assert best["cola", "mcc"] == ["finetune n_train=20", "finetune n_train=100", "finetune n_train=2000"]
    assert best["mrpc", "f1"] == [f"hyperformer++ n_train={rows}" for rows in (10, 20, 100)]
    assert [(one.better.split()[-1], one.other.split()[-1]) for one in data.comparisons] == [
        ("n_train=20", "n_train=20"), ("n_train=100", "n_train=100"),
    ]  # fmt: skip
    assert (
        "Only rows with the same n_train are compared: the best of a column is the best of them."
        in footnotes(table)
    )
    assert table_file(table).count(r"\midrule") == 4
    assert [each.label for each in trade_offs(data) if each.is_front] == [
        "hyperformer++ n_train=20", "hyperformer++ n_train=100",
    ]  # fmt: skip


def test_each_task_has_its_curves_where_not_all_have_all_numbers_of_rows(data: ReportData) -> None:
    curves = row_curves(data)
    assert {task: [rows for rows, *_ in found["finetune"]] for task, found in curves.items()} == {
        "": [20, 100], "cola": [20, 100, 2000], "mrpc": [10, 20, 100],
    }  # fmt: skip
    assert curves["cola"]["finetune"][1] == (100, pytest.approx(16.5), pytest.approx(0.5**0.5))


def test_a_task_in_two_sets_keeps_their_rows_apart(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of("variants: [finetune]\ngrid: {tasks: [[cola], [mrpc]], n_train: [10], seed: [1]}\n")
    assert [row.label for row in report_of(plan, tmp_path / "a").tables[0].rows] == ["finetune"]
    two = plan_of("variants: [finetune]\ngrid: {tasks: [[cola], [cola, mrpc]], seed: [1]}\n")
    ledger = Ledger(two, tmp_path / "b")
    table = make_report("s", collect(ledger, read_statuses(ledger, two.runs)[0])).tables[0]
    assert [row.label for row in table.rows] == ["finetune tasks=cola", "finetune tasks=cola+mrpc"]


def test_a_choice_says_for_which_task_it_is(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of(
        "variants: [finetune]\ngrid: {tasks: [[cola], [mrpc]], n_train: [10], learning_rate: [1e-3, 1e-4], seed: [1]}\n"
        "select: {over: [learning_rate]}\n"
    )
    (row,) = report_of(plan, tmp_path / "runs").tables[0].rows
    assert row.chosen_label == "cola: learning_rate=0.001; mrpc: learning_rate=0.001"
