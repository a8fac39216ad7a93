"""Marks in the table, from answers that runs kept."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hyperformer.answers.answers import Answer, make_answers
from hyperformer.answers.files import write_answers
from hyperformer.data.tasks import TASKS
from hyperformer.files import write_json
from launchers.plan.plan import Plan, Run
from launchers.report.compare import compare_reports
from launchers.report.make_report import make_report
from launchers.report.report_data import Table
from launchers.report.results import collect
from launchers.report.statistics import row_tests
from launchers.report.text import cell_text, footnotes
from launchers.status.read_status import read_statuses
from launchers.store.ledger import Ledger

ROWS = 139
SHARES = {"adapters": 0.97, "finetune_single_task": 0.55, "finetune": 0.93}


def give_answers(ledger: Ledger, run: Run, rows: int = ROWS, **more: Any) -> None:
    """A result with answers to both tasks, of which a share is right that depends on the variant."""
    folder = ledger.folder(run)
    metrics, files = {}, {}
    for name in run.config.data.tasks:
        draw = random.Random(f"{run.name} {name}")
        targets = [str(random.Random(row).randrange(2)) for row in range(rows)]
        share = SHARES[run.config.variant]
        texts = [right if draw.random() < share else str(1 - int(right)) for right in targets]
        hashes = [f"{row:016x}" for row in range(rows)]
        answers = make_answers(TASKS[name], "test", [Answer(text, text) for text in texts], targets, hashes)
        folder.mkdir(parents=True, exist_ok=True)
        files[name] = write_answers(folder / "answers", answers)
        metrics[name] = answers.metrics()
    parameters = {"total": 9, "trained": 3, "trained_percent_per_task": 1.0}
    result = {"signature": run.signature, "test": metrics, "validation": metrics, "parameters": parameters}
    write_json(folder / "result.json", {**result, "answers": {"test": files}, **more})


@pytest.fixture
def ledger(plan_of: Callable[[str], Plan], tmp_path: Path) -> Ledger:
    plan = plan_of(
        "{variants: [adapters, finetune_single_task, finetune], tasks: [rte, mrpc], grid: {seed: [1, 2, 3]}}"
    )
    ledger = Ledger(plan, tmp_path / "runs")
    for run in plan.runs:
        give_answers(ledger, run)
    return ledger


def table_of(ledger: Ledger) -> Table:
    return make_report("s", collect(ledger, read_statuses(ledger, ledger.plan.runs)[0])).tables[0]


def test_what_is_worse_than_the_best_row_is_marked(ledger: Ledger) -> None:
    table = table_of(ledger)
    best, worse, equal = (row.cells["rte", "acc"] for row in table.rows)
    assert best.is_best and best.difference is None and worse.difference is not None
    assert worse.mean is not None and best.mean is not None
    assert worse.difference.value == pytest.approx(worse.mean - best.mean) and worse.difference.rows == ROWS
    assert worse.difference.is_significant and cell_text(worse).endswith("†")
    assert equal.difference is not None and not equal.difference.is_significant
    assert table.pairs == 3 * 3 and not table.untested
    assert table.rows[1].cells["mrpc", "f1"].difference is not None
    told = "\n".join(footnotes(table))
    assert "† worse than" in told and "Holm's correction for all 9 pairs" in told and "one seed" not in told
    told_of_equal = "\n".join(footnotes(dataclasses.replace(table, rows=(table.rows[0], table.rows[2]))))
    assert "No row is shown to be worse" in told_of_equal and "†" not in told_of_equal
    precision = table.precision["rte", "acc"]
    assert precision.rows == ROWS and 1 < precision.standard_error < 3
    assert f"rte acc (139 rows: {precision.standard_error:.1f})" in told


def test_runs_of_two_sweeps_with_one_signature_are_two(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ledger(ledger.plan, tmp_path / "other")
    monkeypatch.setitem(SHARES, "adapters", 0.6)
    for run in other.plan.runs:
        give_answers(other, run)
    reports = [
        make_report(name, collect(one, read_statuses(one, one.plan.runs)[0]))
        for name, one in (("a", ledger), ("b", other))
    ]
    rows = {row.label: row.cells["rte", "acc"] for row in compare_reports(reports).tables[0].rows}
    best, worse = rows["a: adapters"], rows["b: adapters"]
    assert best.mean is not None and worse.mean is not None and worse.difference is not None
    assert worse.difference.value == pytest.approx(worse.mean - best.mean) and worse.difference.is_significant


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("older", "rte, mrpc: finetune-seed1: it kept no answers, being of an earlier version"),
        ("swapped", "finetune-seed1: .*is not as it was written"),
        ("other rows", "rte: finetune-seed1: its test rows are not those of adapters-rte-seed1"),
        ("other result", "rte: finetune-seed1: its answers give acc .*, not 12.5000 as its result says"),
    ],
)
def test_answers_that_cannot_be_used_are_told_and_nothing_is_tested_with_them(
    ledger: Ledger, damage: str, told: str
) -> None:
    run = next(run for run in ledger.plan.runs if run.name == "finetune-seed1")
    metrics = {"rte": {"acc": 12.5}, "mrpc": {"f1": 80.0, "acc": 70.0}}
    if damage == "older":
        give_answers(ledger, run, answers=None)
    elif damage == "other rows":
        give_answers(ledger, run, rows=ROWS - 1)
    elif damage == "other result":
        give_answers(ledger, run, test=metrics)
    else:
        path = ledger.folder(run) / "answers" / "test-rte.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines[1:2], *lines[:1], *lines[2:]]))
    table = table_of(ledger)
    assert table.rows[2].cells["rte", "acc"].difference is None
    assert table.rows[1].cells["rte", "acc"].difference is not None
    notes = [note for note in footnotes(table) if note.startswith("Not tested against other rows: ")]
    assert re.search(told, notes[0])


def test_tables_with_many_rows_are_not_tested(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_tests, "MOST_ROWS", 2)
    table = table_of(ledger)
    assert table.pairs == 0 and table.untested == ("3 rows are more than 2; choose settings with `select:`",)
