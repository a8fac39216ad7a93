"""report/index.html, drawn by a real browser where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hyperformer.files import write_json
from launchers.plan.plan import Plan
from launchers.report import files
from launchers.report.compare import compare_reports
from launchers.report.figures.series import CurvePoint, learning_curves, row_curves, trade_offs
from launchers.report.make_report import make_report
from launchers.report.page.content import drawn_rows
from launchers.report.page.make_page import page
from launchers.report.report_data import AVERAGE, ReportData
from launchers.report.results import collect
from launchers.status.read_status import read_statuses
from launchers.store.attempts import Attempt, Outcome
from launchers.store.ledger import Ledger

ODD = "a_b & 50% <b>x</b> ${HOME} </script><script>document.title='broken'</script>"
SWEEP = """
    variants: [hyperformer++, adapters]
    tasks: [cola, mrpc]
    grid: {seed: [1, 2], n_train: [10, 20]}
    """


@pytest.fixture
def data(plan_of: Callable[[str], Plan], tmp_path: Path) -> ReportData:
    """Every run is done but one, which failed with an odd message; adapters train single tasks."""
    ledger = Ledger(plan_of(SWEEP), tmp_path / "runs")
    for run in ledger.plan.runs:
        folder, seed = ledger.folder(run), run.config.seed
        tasks = run.config.data.tasks
        metrics = {task: {"f1": 60.0 + seed + (run.config.data.n_train or 0)} for task in tasks}
        folder.mkdir(parents=True)
        lines = [
            {"step": step, "split": "validation", **{f"{task}/f1": 10.0 * step + seed for task in tasks}}
            for step in (1, 2)
        ]
        told = "\n".join(json.dumps(line) for line in lines)
        (folder / "metrics.jsonl").write_text(
            told + '\n{"step": 3, "split": "validation", "cola/f1": NaN}\n'
            '{"step": 1e999, "split": "validation", "cola/f1": 3}\n{"st'
        )
        if run is ledger.plan.runs[-1]:
            Attempt.of(folder, 1).write_outcome(Outcome("failed", message=ODD, kind="user_code", ended=2.0))
            continue
        percent = 1.0 if run.config.variant == "adapters" else 2.0
        parameters = {"total": 2_000_000, "trained": 30_000, "trained_percent_per_task": percent}
        result = {
            "signature": run.signature,
            "test": metrics,
            "validation": metrics,
            "parameters": parameters,
        }
        result |= {
            "seconds": {"train": 3000.0, "evaluate": 600.0},
            "ranks": 2,
            "validation_average": float("nan"),
            "steps": 1000 * seed,  # `early_stop` can end a run
            "drawn": {task: {"rows": 50, "share": 1 / len(tasks), "drawn": 100 * seed} for task in tasks},
        }
        write_json(folder / "result.json", result)
    found = make_report(ODD, collect(ledger, read_statuses(ledger, ledger.plan.runs)[0]))
    return replace(found, notes=(ODD,))


def test_the_rows_that_were_drawn(data: ReportData, tmp_path: Path) -> None:
    first, *others = drawn_rows(data.runs)
    assert (first.row, first.task, first.runs) == ("hyperformer++ n_train=10", "cola", 2)
    assert (first.rows, first.drawn, first.found, first.share, first.passes) == (50, 150, 50, 50, 3)
    assert len(others) == 7 and "Training rows drawn" in page(data, None, tmp_path, "me")


def test_the_numbers_of_the_figures(data: ReportData) -> None:
    by_label = {curve.label: curve for curve in learning_curves(data)}
    # Two seeds, each two GPUs for an hour, of 1,000 and 2,000 steps.
    point = by_label["hyperformer++ n_train=10"].points[0]
    assert point.hours == pytest.approx((2 / 1000 + 2 / 2000) / 2)
    assert point == CurvePoint(1, point.hours, 11.5, 11.0, 12.0, 2)
    assert [point.step for point in by_label["adapters n_train=10"].points] == [1, 2]  # step 3 is no number
    assert by_label["adapters n_train=20"].points[0].hours is None  # a run has no result
    assert row_curves(data)[""]["hyperformer++"] == [
        (10, pytest.approx(71.5), pytest.approx(0.5**0.5)),
        (20, pytest.approx(81.5), pytest.approx(0.5**0.5)),
    ]
    front = {each.label: each.is_front for each in trade_offs(data)}
    assert front["hyperformer++ n_train=20"] and not front["hyperformer++ n_train=10"]


def test_the_page_says_what_is_missing_without_the_extra(
    data: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "can_draw", lambda: False)
    page = files.write_report(tmp_path / "report", data).read_text()
    assert "pip install &#39;hyperformer[report]&#39;" in page
    assert "<b>x</b>" not in page and page.count("</script>") == 2
    assert "NaN" not in re.findall(r'id="run-data">(.*?)</script>', page)[0]


def test_a_real_browser_draws_every_figure_and_lists_every_run(data: ReportData, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("HYPERFORMER_REQUIRE_BROWSER"):
            pytest.fail("no chromium")
        pytest.skip("no chromium: the page was not opened")
    page = files.write_report(tmp_path / "report", data)
    assert sorted(path.name for path in (tmp_path / "report/figures").iterdir()) == [
        "gpu-hours.pdf", "learning-hours.pdf", "learning-steps.pdf", "trained-score.pdf", "training-rows.pdf",
    ]  # fmt: skip
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run(
        [browser, f"--user-data-dir={tmp_path / 'profile'}", *options, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert shown.count('class="marks"') == 5 and shown.count("cannot be drawn") == 1  # the script's
    assert f"{len(data.runs)} of {len(data.runs)} runs" in shown
    assert "<title>a_b &amp; 50% &lt;b&gt;x" in shown  # no text became code
    assert not re.search(r'(src|href)="?https?:', page.read_text())  # it needs no network


def test_two_sweeps_side_by_side(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    reports = []
    for name, tasks, score in (
        ("a", ["cola", "mrpc"], 60.0),
        ("b", ["cola", "mrpc"], 70.0),
        ("c", ["cola"], 80.0),
        ("d", ["cola", "mrpc"], None),
    ):
        plan = replace(plan_of(f"variants: [finetune]\ntasks: {tasks}\n"), name=name)
        ledger = Ledger(plan, tmp_path / name)
        (run,) = plan.runs
        metrics = {task: {"f1": score} for task in tasks}
        parameters = {"total": 2, "trained": 1, "trained_percent_per_task": 50.0}
        ledger.folder(run).mkdir(parents=True)
        result = {
            "signature": run.signature,
            "test": metrics,
            "validation": metrics,
            "parameters": parameters,
        }
        if score is not None:
            write_json(ledger.folder(run) / "result.json", result)
        reports.append(make_report(name, collect(ledger, read_statuses(ledger, plan.runs)[0])))
    both = compare_reports(reports[:2])
    table = both.tables[0]
    assert both.name == "a + b" and [row.label for row in table.rows] == ["a: finetune", "b: finetune"]
    assert [row.cells[AVERAGE].mean for row in table.rows] == [60.0, 70.0]
    assert [row.cells[AVERAGE].is_best for row in table.rows] == [False, True]
    assert [entry.run.name for entry in both.runs] == ["a: finetune", "b: finetune"]
    unfinished = compare_reports([*reports[:2], reports[3]]).tables[0]  # d has no result: its metrics are a's
    assert unfinished.columns == table.columns and not unfinished.warnings
    assert [row.cells[AVERAGE].mean for row in unfinished.rows] == [60.0, 70.0, None]
    three = compare_reports(reports[:3]).tables[0]
    assert [row.cells[AVERAGE].mean for row in three.rows] == [None] * 3
    assert three.rows[2].cells[("mrpc", "f1")].mean is None and three.rows[2].cells[("cola", "f1")].is_best
    assert "the sweeps have different columns, so there are no averages" in three.warnings
