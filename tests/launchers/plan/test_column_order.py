"""`columns:` of a sweep file, from the file to the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperformer.errors import ConfigError
from hyperformer.files import write_json
from launchers.plan.plan import Plan
from launchers.report.latex.table import table_file
from launchers.report.make_report import make_report
from launchers.report.report_data import AVERAGE, TASK_AVERAGE
from launchers.report.results import collect
from launchers.status.read_status import read_statuses
from launchers.store.ledger import Ledger

SWEEP = "variants: [finetune]\ntasks: [rte, mrpc, cola]\ncolumns: [cola, sst2, mrpc acc, mrpc]\n"


def test_the_table_has_the_columns_in_this_order(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    plan = plan_of(SWEEP)
    (run,) = plan.runs
    ledger = Ledger(plan, tmp_path / "runs")
    metrics = {"rte": {"acc": 1.0}, "mrpc": {"f1": 2.0, "acc": 3.0}, "cola": {"mcc": 4.0}}
    parameters = {"total": 2, "trained": 1, "trained_percent_per_task": 1.0}
    result = {"signature": run.signature, "test": metrics, "validation": metrics, "parameters": parameters}
    ledger.folder(run).mkdir(parents=True)
    write_json(ledger.folder(run) / "result.json", result)
    entries = collect(ledger, read_statuses(ledger, plan.runs)[0])
    for table in make_report("s", entries, plan.select, plan.columns).tables:
        assert table.columns == (
            ("cola", "mcc"), ("mrpc", "acc"), ("mrpc", "f1"), ("rte", "acc"), AVERAGE, TASK_AVERAGE,
        )  # fmt: skip
    assert r"mrpc\\acc/f1" in table_file(table) and "4.0 & 3.0/2.0 & 1.0 & 2.5 & 2.5" in table_file(table)


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        ("[cola, rtee]", "line 3, columns.*'rtee' is neither a task of the sweep nor a built-in one.*rte"),
        ("[mrpc ac]", "mrpc has no metric 'ac'.*acc"),
        ("[cola, cola]", "'cola' is named twice"),
        ("[[cola]]", "must be a task, or a task and a metric"),
        ("cola", "must be a list"),
    ],
)
def test_a_wrong_name_is_refused(plan_of: Callable[[str], Plan], columns: str, error: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){error}"):
        plan_of(f"variants: [finetune]\ntasks: [rte, mrpc, cola]\ncolumns: {columns}\n")
