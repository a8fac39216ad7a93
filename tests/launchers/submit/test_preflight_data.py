"""Rows that a task has in a file of its own: missing, they are found before anything starts; they need no hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from launchers.plan.plan import Plan
from launchers.submit.prefetch import from_hub
from launchers.submit.preflight import find_problems

TASK = "notes: {template: '{a}', target: b, labels: [x, y], metrics: [accuracy], data: notes.csv, split: 80/10/10}"


def test_a_file_of_its_own(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text(TASK)
    (tmp_path / "rows/rte").mkdir(parents=True)
    base = f"base: {{task_file: {tmp_path}/tasks.yaml, model_name_or_path: toy"
    from_folder = plan_of(
        f"variants: [adapters]\ntasks: [notes, rte]\n{base}, data_source: folder, data_dir: {tmp_path}/rows}}\n"
    )
    (finding,) = find_problems(from_folder.runs, tmp_path / "runs")[0]
    assert (
        finding.name == "data"
        and f"task notes: data {tmp_path}/notes.csv: there is no such file" in finding.text
    )
    (tmp_path / "notes.csv").write_text("a,b\n1,x\n")
    assert find_problems(from_folder.runs, tmp_path / "runs")[0] == []
    both = plan_of(f"variants: [adapters]\ntasks: [notes, rte]\n{base}}}\n")
    assert [name.split(" ")[2] for name in from_hub(both.runs)] == ["rte"]
