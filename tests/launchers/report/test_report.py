"""The numbers of the table, and its files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trained_models import make_adapter, make_base

from hyperformer.files import write_json
from launchers.cli.display import tables
from launchers.cli.display.layout import console
from launchers.plan.plan import Plan, Run
from launchers.report import csv_files
from launchers.report.compare import compare_reports
from launchers.report.csv_files import result_records
from launchers.report.files import write_report
from launchers.report.latex.table import table_file
from launchers.report.make_report import make_report
from launchers.report.markdown import markdown
from launchers.report.report_data import AVERAGE, TASK_AVERAGE, Parameters, Table
from launchers.report.results import RunResult, collect
from launchers.report.similarity_plots import plot_similarities
from launchers.report.text import cell_text, footnotes
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


def entries_of(ledger: Ledger) -> list[RunResult]:
    return collect(ledger, read_statuses(ledger, ledger.plan.runs)[0])


def table_of(entries: Sequence[RunResult], split: str = "test") -> Table:
    return next(table for table in make_report("s", entries).tables if table.split == split)


def test_numbers(ledger: Ledger) -> None:
    table = table_of(entries_of(ledger))
    assert table.columns == (("cola", "mcc"), ("mrpc", "f1"), ("mrpc", "acc"), AVERAGE, TASK_AVERAGE)
    together, single = table.rows
    assert (together.label, together.done, together.planned) == ("hyperformer++", 2, 3)
    cell = together.cells["cola", "mcc"]
    assert (cell.mean, cell.n, cell.planned) == (41.5, 2, 3)
    assert cell.std == pytest.approx(0.5**0.5)
    average = together.cells[AVERAGE]
    assert average.mean == pytest.approx((41 + 81 + 71 + 42 + 82 + 72) / 6)  # over metric columns
    assert average.std == pytest.approx(0.5**0.5) and average.n == 2
    over_tasks = together.cells[TASK_AVERAGE]
    assert (
        over_tasks.mean == pytest.approx((41 + (81 + 71) / 2 + 42 + (82 + 72) / 2) / 4) and over_tasks.n == 2
    )

    assert (single.label, single.done, single.planned) == ("adapters", 5, 6)
    assert (single.cells["cola", "mcc"].n, single.cells["mrpc", "f1"].n) == (3, 2)
    assert single.cells["cola", "mcc"].mean == 42.0
    assert single.cells[AVERAGE].n == 2  # seed 3 lacks a task: no average over the others
    assert single.unfinished == (("adapters-mrpc-seed3", "missing", ""),)
    assert together.parameters == Parameters(2_000_000, 30_000, 0.75)


def test_nothing_done(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    entries = entries_of(Ledger(plan_of(SWEEP), tmp_path / "runs"))
    table = table_of(entries)
    assert table.columns == (("cola", ""), ("mrpc", ""), AVERAGE, TASK_AVERAGE)
    assert {cell_text(cell) for row in table.rows for cell in row.cells.values()} == {"–"}
    assert table.rows[0].parameters is None
    assert [one.split for one in make_report("s", entries).tables] == ["test"]
    write_report(tmp_path / "report", make_report("s", entries))


def test_no_test_split(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    ledger = Ledger(plan_of("{variants: [finetune], tasks: [cola, mrpc]}"), tmp_path / "runs")
    give_result(ledger, ledger.plan.runs[0], {}, validation={"cola": {"mcc": 1.0}, "mrpc": {"f1": 2.0}})
    entries = entries_of(ledger)
    assert [one.split for one in make_report("s", entries).tables] == ["validation"]
    assert table_of(entries, "validation").rows[0].cells[AVERAGE].mean == 1.5


def test_files(ledger: Ledger, tmp_path: Path) -> None:
    entries = entries_of(ledger)
    path = write_report(tmp_path / "report", make_report("s", entries)).with_name("report.md")
    text = path.read_text(encoding="utf-8")
    head = "| variant | cola mcc | mrpc f1 | mrpc acc | Avg over columns | Avg over tasks | n | parameters |"
    row = "| hyperformer++ | 41.5 ±0.7* | **81.5 ±0.7*** | **71.5 ±0.7*** | **64.8 ±0.7*** | **59.0 ±0.7*** | 2 of 3 |"
    assert head in text and row in text
    assert "| adapters | **42.0 ±1.0** | **81.5 ±0.7*** |" in text and "| 2–3 of 3 |" in text
    assert "1 of 6 runs have no result; missing: adapters-mrpc-seed3" in text
    assert "## Validation" in text
    assert "| hyperformer++ | 2 of 3 | 64.8 ±0.7* | 64.3 to 65.3 | 59.0 ±0.7* | 58.5 to 59.5 |" in text
    assert "They hold the true value in about: 2 seeds 50%, 3 seeds 75% of cases." in text
    assert "| hyperformer++ | adapters | +0.0 | 1.00 | " in text
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
    table = table_of(entries_of(Ledger(plan, tmp_path / "runs")))
    assert [row.label for row in table.rows] == [
        "hyperformer reduction_factor=16", "hyperformer reduction_factor=32", "finetune",
    ]  # fmt: skip


def test_runs_that_read_other_rows_or_weights_are_told(ledger: Ledger) -> None:
    together = [run for run in ledger.plan.runs if run.config.variant == "hyperformer++"]
    metrics = {"cola": {"mcc": 1.0}, "mrpc": {"f1": 1.0, "acc": 1.0}}
    for run, rows, weights in zip(together, ("3 rows, a", "3 rows, a", "4 rows, b"), "wwv", strict=True):
        inputs = {"rows": {"cola train": rows, "mrpc train": "same"}, "base_model": weights}
        give_result(
            ledger, run, metrics, inputs=inputs, **({"numerics": {"tf32": True}} if weights == "w" else {})
        )
    table = table_of(entries_of(ledger)[:3])
    names = "hyperformer++-seed3 had others than hyperformer++-seed1, hyperformer++-seed2"
    assert table.warnings == (
        f"the rows of cola train changed between runs: {names}",
        f"the weights of the base model changed between runs: {names}",
        f"the format of float32 products (TF32 or not) changed between runs: {names}",
    )
    assert f"Do not compare: the rows of cola train changed between runs: {names}." in footnotes(table)
    assert not table_of(entries_of(ledger)[3:]).warnings


def test_runs_that_did_not_record_what_they_read_are_told(ledger: Ledger, tmp_path: Path) -> None:
    """One of an earlier version, one that began under it, and one of this version."""
    metrics = {"cola": {"mcc": 1.0}, "mrpc": {"f1": 1.0, "acc": 1.0}}
    old, resumed, new = ledger.plan.runs[:3]
    inputs = {"rows": {"cola train": "3 rows, a"}, "base_model": "w"}
    give_result(ledger, old, metrics)
    give_result(ledger, resumed, metrics, inputs=inputs, inputs_unknown_before_step=7)
    give_result(ledger, new, metrics, inputs=inputs)
    entries = entries_of(ledger)[:3]
    table = table_of(entries)
    assert table.warnings == (
        f"it was not recorded which rows and weights {old.name} read, as it was for other runs",
        f"it was not recorded which rows and weights the first steps of {resumed.name} read",
    )
    report = write_report(tmp_path / "report", make_report("s", entries)).with_name("report.md").read_text()
    assert all(f"- Do not compare: {text}." in report for text in table.warnings)
    assert result_records([table])[0]["warnings"] == "; ".join(table.warnings)
    assert not table_of(entries[2:]).warnings
    assert result_records([table_of(entries[2:])])[0]["warnings"] is None


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
    rows = table_of(entries_of(ledger)).rows
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
    told = "\n".join(piece.plain for piece in tables.result_tables(table_of(entries_of(ledger)), width))
    assert max(map(len, told.splitlines())) <= max(width, 38)  # the first column and one more
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
        for piece in tables.result_tables(table_of(entries_of(ledger))):
            out.print(piece)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 100
    told = captured.get()
    assert "…" not in told and told.count("spearman") == 8 and "% per task" in told and "Avg" in told


def test_damaged_result_is_named(ledger: Ledger) -> None:
    run = ledger.plan.runs[0]
    (ledger.folder(run) / "result.json").write_text(json.dumps([1]))
    table = table_of(entries_of(ledger))
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
    notes = footnotes(table_of(entries_of(ledger)))
    (note,) = [each for each in notes if "global batch" in each]
    assert "hyperformer++-seed2 had others than hyperformer++-seed1, hyperformer++-seed3" in note


def test_chosen_settings_are_in_the_table_and_all_others_in_the_appendix(
    plan_of: Callable[[str], Plan], tmp_path: Path
) -> None:
    """The setting that is best on validation, not on test; seed 2 of it has no result for adapters."""
    plan = plan_of(
        """
        variants: [hyperformer++, adapters]
        tasks: [cola, mrpc]
        grid: {learning_rate: [1e-3, 3e-4], seed: [1, 2]}
        select: {over: [learning_rate], by: average_over_tasks}
        """
    )
    ledger = Ledger(plan, tmp_path / "runs")
    for run in plan.runs:
        if run.name in ("adapters-mrpc-lr0.001-seed2", "adapters-mrpc-lr0.0003-seed2"):
            continue
        value = 1000 * run.config.training.learning_rate
        every = {"cola": {"mcc": value}, "mrpc": {"f1": value + 1, "acc": value}}
        metrics = {task: every[task] for task in run.config.data.tasks}
        test = {task: {name: -number for name, number in each.items()} for task, each in metrics.items()}
        give_result(ledger, run, test, validation=metrics)
    entries = entries_of(ledger)
    data = make_report("s", entries, plan.select)
    table, appendix = data.tables[0], data.appendix[0]
    together, single = table.rows
    assert (together.label, together.chosen_label) == ("hyperformer++", "learning_rate=0.001")
    assert together.cells["cola", "mcc"].mean == -1 and together.validation.mean == 1.25
    assert (single.validation.n, single.validation.planned) == (1, 2) and not single.validation.is_complete
    assert [row.label for row in appendix.rows if row.variant == "hyperformer++"] == [
        "hyperformer++ learning_rate=0.001", "hyperformer++ learning_rate=0.0003",
    ]  # fmt: skip
    text = write_report(tmp_path / "report", data).with_name("report.md").read_text()
    assert "| variant | chosen | cola mcc |" in text and "| validation average over tasks | n |" in text
    assert "hyperformer++: learning_rate=0.001 of 2 settings, by validation average over tasks 1.25" in text
    assert (
        "1.25 over 1 of 2 seeds; preliminary: not all runs have ended (no number: adapters-mrpc-lr0.001-seed2: "
        in text
    )
    assert text.index("# Appendix") < text.index("| hyperformer++ learning_rate=0.0003 |")
    with (tmp_path / "report" / "settings.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 8
    write_report(tmp_path / "report", make_report("s", entries))
    assert not (tmp_path / "report" / "settings.csv").exists()


def test_a_result_that_is_no_number_is_told_and_counts_as_missing(ledger: Ledger) -> None:
    give_result(ledger, ledger.plan.runs[0], {"cola": {"mcc": float("nan")}, "mrpc": {"f1": 1.0, "acc": 1.0}})
    table = table_of(entries_of(ledger))
    assert (table.rows[0].cells["cola", "mcc"].n, table.rows[0].cells[AVERAGE].n) == (1, 1)
    assert "hyperformer++: hyperformer++-seed1: cola mcc is not finite." in footnotes(table)


def test_metrics_with_one_short_name_do_not_hide_each_other(ledger: Ledger) -> None:
    metrics = {
        "cola": {"pearson_corrcoef": 11.0, "pearson": 22.0},
        "mrpc": {"pearson_corrcoef": 33.0, "em": 44.0},
    }
    give_result(ledger, ledger.plan.runs[0], metrics)
    report = make_report("s", entries_of(ledger))
    names = ["cola pearson_corrcoef", "cola pearson", "mrpc pearson", "mrpc em"]
    screen = "\n".join(piece.plain for piece in tables.result_tables(report.tables[0], 400))
    for text in (screen, markdown(report), table_file(report.tables[0])):
        assert all(f"{number:.1f}" in text for number in (11, 22, 33, 44)), text
    assert all(name in screen for name in names)
    record = next(one for one in csv_files.result_records(report.tables) if one["variant"] == "hyperformer++")
    assert [record[name] for name in names] == [11.0, 22.0, 33.0, 44.0]
    header, *lines = csv_files.run_lines(report)
    assert dict(zip(header, lines[0], strict=True))["test cola pearson"] == 22.0


def test_runs_that_answer_one_class_are_named(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of("{variants: [finetune], tasks: [rte, cola], grid: {seed: [1, 2, 3, 4]}}")
    ledger = Ledger(plan, tmp_path / "runs")
    scores = {"rte": {"acc": 50.0}, "cola": {"mcc": 1.0}}
    kept = {"rte": "1", "mnli": "invalid"}
    for run, more in zip(
        plan.runs,
        (
            {"one_class": {"kept": kept, "last": {"rte": "1", "cola": "0"}}},
            {"one_class": {"kept": {}, "last": {"rte": "1"}}},
            {"one_class": {"kept": {}, "last": {}}},
            {},
        ),
        strict=True,
    ):
        give_result(ledger, run, scores, **more)
    assert make_report("s", entries_of(ledger)).notes == (
        "finetune-seed1: every validation row of a task is answered with one class: "
        "in the kept checkpoint rte '1', mnli 'invalid'; in the last validation cola '0'.",
        "finetune-seed2: every validation row of a task is answered with one class: in the last validation rte '1'.",
    )


def test_a_done_run_whose_result_cannot_be_read(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of("{variants: [finetune], tasks: [rte], grid: {seed: [1, 2]}}")
    ledger = Ledger(plan, tmp_path / "runs")
    for run in plan.runs:
        give_result(ledger, run, {"rte": {"acc": 50.0}})
    statuses, _ = read_statuses(ledger, plan.runs)
    (result := ledger.folder(plan.runs[1]) / "result.json").unlink()
    result.mkdir()  # as what no right leads to, but also for root
    table = make_report("s", collect(ledger, statuses)).tables[0]
    (row,) = table.rows
    assert (row.done, row.planned) == (1, 2)
    assert any(f"unknown: finetune-seed2 ({result} cannot be" in note for note in footnotes(table))


def test_runs_of_different_versions_are_told(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of("{variants: [finetune], tasks: [rte], grid: {seed: [1, 2, 3]}}")
    ledger = Ledger(plan, tmp_path / "runs")
    for run, torch in zip(plan.runs, ("2.9", "2.9", "2.13+cpu"), strict=True):
        versions = {"torch": torch, "transformers": "5.1", "datasets": run.config.seed}
        give_result(ledger, run, {"rte": {"acc": 50.0}}, versions=versions, git_commit=f"{torch:0<40}")
    report = make_report("s", entries_of(ledger))
    assert report.notes == (
        "The runs were made with different versions of HyperFormer (git commit): 2.90000000 (2 runs), "
        "2.13+cpu00 (1 run).",
        "The runs were made with different versions of torch: 2.9 (2 runs), 2.13+cpu (1 run).",
    )
    both = compare_reports([report, replace(report, name="t", notes=())])
    assert both.notes[-1].endswith("of torch: 2.9 (4 runs), 2.13+cpu (2 runs).")


def test_runs_that_stopped_early_are_named(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of(
        "{variants: [finetune], tasks: [rte, cola], base: {early_stop: 3}, grid: {seed: [1, 2, 3, 4, 5, 6, 7, 8]}}"
    )
    ledger = Ledger(plan, tmp_path / "runs")
    for run in plan.runs:
        stopped = "early_stop: ..." if run.config.seed > 1 else None
        give_result(ledger, run, {"rte": {"acc": 60.0}}, steps=40, stopped_early=stopped)
    entries = entries_of(ledger)
    (note,) = make_report("s", entries).notes
    assert note.startswith("early_stop ended runs before their last step: finetune-seed2 (40 steps), ")
    assert note.endswith("finetune-seed7 (40 steps) and 1 more.") and "seed1" not in note
    write_report(tmp_path / "report", make_report("s", entries))
    assert f"- {note}" in (tmp_path / "report/report.md").read_text()
    with (tmp_path / "report/runs.csv").open() as stream:
        assert {line["steps"] for line in csv.DictReader(stream)} == {"40"}
