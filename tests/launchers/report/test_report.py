"""The numbers of the table, and its files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trained_models import make_adapter, make_base

from hyperformer.files import write_json
from launchers.cli import tables
from launchers.cli.layout import console
from launchers.plan.runs import Plan, Run
from launchers.report import files, results_table
from launchers.report.plots import plot_similarities
from launchers.status.read_status import read_statuses
from launchers.store.ledger import Ledger

SWEEP = """
    variants: [hyperformer++, adapters]
    tasks: [cola, mrpc]
    grid: {seed: [1, 2, 3], reduction_factor: [16]}
    """


def give_result(ledger: Ledger, run: Run, test: dict[str, dict[str, float]], **more: Any) -> None:
    folder = ledger.folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {"total": 2_000_000, "trained": 30_000, "trained_percent_per_task": 0.75}
    result = {"signature": run.signature, "test": test, "validation": test, "parameters": parameters, **more}
    write_json(folder / "result.json", result)


@pytest.fixture
def ledger(plan_of: Callable[[str], Plan], tmp_path: Path) -> Ledger:
    """Seeds 1 and 2 of hyperformer++ are done, and of adapters all but mrpc with seed 3."""
    plan = plan_of(SWEEP)
    ledger = Ledger(plan, tmp_path / "runs")
    for run in plan.runs:
        seed = run.config.seed
        metrics = {"cola": {"mcc": 40.0 + seed}, "mrpc": {"f1": 80.0 + seed, "acc": 70.0 + seed}}
        if run.config.variant == "hyperformer++" and seed < 3:
            give_result(ledger, run, metrics)
        elif run.task is not None and (run.task, seed) != ("mrpc", 3):
            give_result(ledger, run, {run.task: metrics[run.task]})
    return ledger


def entries_of(ledger: Ledger) -> list[results_table.RunResult]:
    return results_table.collect(ledger, read_statuses(ledger, ledger.plan.runs)[0])


def test_numbers(ledger: Ledger) -> None:
    table = results_table.make_table(entries_of(ledger), "test")
    assert table.columns == (("cola", "mcc"), ("mrpc", "f1"), ("mrpc", "acc"), results_table.AVERAGE)
    together, single = table.rows
    assert (together.label, together.done, together.planned) == ("hyperformer++", 2, 3)
    cell = together.cells["cola", "mcc"]
    assert (cell.mean, cell.n, cell.planned) == (41.5, 2, 3)
    assert cell.std == pytest.approx(0.5**0.5)
    average = together.cells[results_table.AVERAGE]
    assert average.mean == pytest.approx((41 + 81 + 71 + 42 + 82 + 72) / 6)  # over metric columns
    assert average.std == pytest.approx(0.5**0.5) and average.n == 2

    assert (single.label, single.done, single.planned) == ("adapters", 5, 6)
    assert (single.cells["cola", "mcc"].n, single.cells["mrpc", "f1"].n) == (3, 2)
    assert single.cells["cola", "mcc"].mean == 42.0
    assert single.cells[results_table.AVERAGE].n == 2  # seed 3 lacks a task: no average over the others
    assert single.unfinished == (("adapters-mrpc-seed3", "missing", ""),)
    assert together.parameters == results_table.Parameters(2_000_000, 30_000, 0.75)


def test_nothing_done(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    entries = entries_of(Ledger(plan_of(SWEEP), tmp_path / "runs"))
    table = results_table.make_table(entries, "test")
    assert table.columns == (("cola", ""), ("mrpc", ""), results_table.AVERAGE)
    assert {files.cell_text(cell) for row in table.rows for cell in row.cells.values()} == {"–"}
    assert table.rows[0].parameters is None
    assert results_table.splits(entries) == ["test"]
    files.write_report(tmp_path / "report", "s", entries)


def test_no_test_split(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    ledger = Ledger(plan_of("{variants: [finetune], tasks: [cola, mrpc]}"), tmp_path / "runs")
    give_result(ledger, ledger.plan.runs[0], {}, validation={"cola": {"mcc": 1.0}, "mrpc": {"f1": 2.0}})
    entries = entries_of(ledger)
    assert results_table.splits(entries) == ["validation"]
    assert results_table.make_table(entries, "validation").rows[0].cells[results_table.AVERAGE].mean == 1.5


def test_files(ledger: Ledger, tmp_path: Path) -> None:
    entries = entries_of(ledger)
    path = files.write_report(tmp_path / "report", "s", entries)
    text = path.read_text(encoding="utf-8")
    head = "| variant | cola mcc | mrpc f1 | mrpc acc | Avg | n | parameters | trained | % per task |"
    row = (
        "| hyperformer++ | 41.5 ±0.7* | 81.5 ±0.7* | 71.5 ±0.7* | 64.8 ±0.7* | 2 of 3 | 2,000,000 | 30,000 |"
    )
    assert head in text and row in text
    assert "| adapters | 42.0 ±1.0 | 81.5 ±0.7* |" in text and "| 2–3 of 3 |" in text
    assert "1 of 6 runs have no result; missing: adapters-mrpc-seed3" in text
    assert "## Validation" in text
    with (tmp_path / "report" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["variant"] for row in rows] == ["hyperformer++", "adapters"] * 2
    assert (rows[0]["cola mcc"], rows[0]["cola mcc n"], rows[0]["runs_planned"]) == ("41.5", "2", "3")
    with (tmp_path / "report" / "runs.csv").open(newline="") as stream:
        runs = list(csv.DictReader(stream))
    assert len(runs) == 9
    assert (
        runs[0]["test mrpc f1"] == "81.0" and runs[2]["test mrpc f1"] == "" and runs[2]["state"] == "missing"
    )


def test_row_settings(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of(
        "{variants: [hyperformer, finetune], tasks: [cola, mrpc], grid: {reduction_factor: [16, 32]}}"
    )
    table = results_table.make_table(entries_of(Ledger(plan, tmp_path / "runs")), "test")
    assert [row.label for row in table.rows] == [
        "hyperformer reduction_factor=16", "hyperformer reduction_factor=32", "finetune",
    ]  # fmt: skip


def test_runs_that_read_other_rows_or_weights_are_told(ledger: Ledger) -> None:
    together = [run for run in ledger.plan.runs if run.config.variant == "hyperformer++"]
    metrics = {"cola": {"mcc": 1.0}, "mrpc": {"f1": 1.0, "acc": 1.0}}
    for run, rows, weights in zip(together, ("3 rows, a", "3 rows, a", "4 rows, b"), "wwv", strict=True):
        inputs = {"rows": {"cola train": rows, "mrpc train": "same"}, "base_model": weights}
        give_result(ledger, run, metrics, inputs=inputs)
    table = results_table.make_table(entries_of(ledger)[:3], "test")
    names = "hyperformer++-seed3 had others than hyperformer++-seed1, hyperformer++-seed2"
    assert table.warnings == (
        f"the rows of cola train changed between runs: {names}",
        f"the weights of the base model changed between runs: {names}",
    )
    assert f"Do not compare: the rows of cola train changed between runs: {names}." in files.footnotes(table)
    assert not results_table.make_table(entries_of(ledger)[3:], "test").warnings


def test_runs_that_did_not_record_what_they_read_are_told(ledger: Ledger, tmp_path: Path) -> None:
    """One of an earlier version, one that began under it, and one of this version."""
    metrics = {"cola": {"mcc": 1.0}, "mrpc": {"f1": 1.0, "acc": 1.0}}
    old, resumed, new = ledger.plan.runs[:3]
    inputs = {"rows": {"cola train": "3 rows, a"}, "base_model": "w"}
    give_result(ledger, old, metrics)
    give_result(ledger, resumed, metrics, inputs=inputs, inputs_unknown_before_step=7)
    give_result(ledger, new, metrics, inputs=inputs)
    entries = entries_of(ledger)[:3]
    table = results_table.make_table(entries, "test")
    assert table.warnings == (
        f"it was not recorded which rows and weights {old.name} read, as it was for other runs",
        f"it was not recorded which rows and weights the first steps of {resumed.name} read",
    )
    report = files.write_report(tmp_path / "report", "s", entries).read_text()
    assert all(f"- Do not compare: {text}." in report for text in table.warnings)
    assert files.result_records(entries)[0]["warnings"] == "; ".join(table.warnings)
    assert not results_table.make_table(entries[2:], "test").warnings
    assert files.result_records(entries[2:])[0]["warnings"] is None


def test_two_runs_never_share_one_seed_of_a_row(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    """Whatever their names say: each result is in the table."""
    plan = plan_of(
        "{variants: [finetune], tasks: [cola, mrpc], grid: {seed: [1, 2], learning_rate: [1e-3, 1e-4]}}"
    )
    plan = replace(
        plan, runs=tuple(replace(run, differs=(("seed", str(run.config.seed)),)) for run in plan.runs)
    )
    ledger = Ledger(plan, tmp_path / "runs")
    for number, run in enumerate(plan.runs):
        give_result(ledger, run, {"cola": {"mcc": float(number)}, "mrpc": {"f1": 1.0}})
    rows = results_table.make_table(entries_of(ledger), "test").rows
    assert sum(row.cells["cola", "mcc"].n for row in rows) == 4
    assert [row.label for row in rows if "signature=" not in row.label] == ["finetune"]


@pytest.mark.parametrize("width", [100, 60, 30])
def test_the_screen_is_as_wide_as_the_terminal(
    plan_of: Callable[[str], Plan], tmp_path: Path, width: int
) -> None:
    plan = plan_of(
        "{variants: [finetune_single_task, hyperformer++], tasks: [cola, mrpc], grid: {seed: [1, 2]}}"
    )
    ledger = Ledger(plan, tmp_path / "runs")
    for run in plan.runs:
        give_result(ledger, run, {task: {"spearman_corrcoef": 77.7} for task in run.config.data.tasks})
    told = "\n".join(
        piece.plain
        for piece in tables.result_tables(results_table.make_table(entries_of(ledger), "test"), width)
    )
    assert max(map(len, told.splitlines())) <= max(width, 37)  # the first column and one more
    assert "cola spearman" in told and "mrpc spearman" in told and "% per task" in told
    statuses, _ = read_statuses(ledger, plan.runs)
    assert max(map(len, tables.status_table(statuses, width).plain.splitlines())) <= max(width, 34)


def test_screen_is_100_columns_wide(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of("{variants: [finetune_single_task, hyperformer++], grid: {seed: [1, 2]}}")
    ledger = Ledger(plan, tmp_path / "runs")
    metrics = {task: {"acc": 88.88, "spearman_corrcoef": 77.7} for task in plan.runs[-1].config.data.tasks}
    for run in plan.runs:
        give_result(ledger, run, {task: metrics[task] for task in run.config.data.tasks})
    out = console()
    with out.capture() as captured:
        for piece in tables.result_tables(results_table.make_table(entries_of(ledger), "test")):
            out.print(piece)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    told = captured.get()
    assert "…" not in told and told.count("spearman") == 8 and "% per task" in told and "Avg" in told


def test_damaged_result_is_named(ledger: Ledger) -> None:
    run = ledger.plan.runs[0]
    (ledger.folder(run) / "result.json").write_text(json.dumps([1]))
    table = results_table.make_table(entries_of(ledger), "test")
    ((name, state, why), *_) = table.rows[0].unfinished
    assert (name, state) == (
        run.name,
        "damaged",
    ) and "result.json is damaged (it holds no JSON object)" in why


def test_plots_of_finished_hypernetworks(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    base = make_base(tmp_path / "t5")
    plan = plan_of("variants: [hyperformer++, adapters_dagger]\ntasks: [cola, mrpc, stsb]\n")
    ledger = Ledger(plan, tmp_path / "runs")
    kinds = {"hyperformer++": "hypernetwork_shared", "adapters_dagger": "task"}
    for run in plan.runs:
        give_result(ledger, run, {"cola": {"mcc": 1.0}})
        make_adapter(ledger.folder(run) / "adapter", base, kinds[run.config.variant])
    ledger.paths.report.mkdir()
    statuses, _ = read_statuses(ledger, plan.runs)
    plots = list(plot_similarities(ledger, statuses))
    assert [path.name for path in plots] == ["similarity-hyperformer++.svg"]
    assert plots[0].read_bytes().startswith(b"<?xml")


def test_runs_with_another_global_batch_are_noted(ledger: Ledger) -> None:
    for run in ledger.plan.runs[:3]:
        inputs = {"rows": {}, "base_model": "w", "global_batch_size": 64 if run.config.seed == 2 else 32}
        give_result(ledger, run, {"cola": {"mcc": 1.0}}, inputs=inputs)
    notes = files.footnotes(results_table.make_table(entries_of(ledger), "test"))
    (note,) = [each for each in notes if "global batch" in each]
    assert "hyperformer++-seed2 had others than hyperformer++-seed1, hyperformer++-seed3" in note
