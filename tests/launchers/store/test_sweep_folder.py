"""Every path in a sweep's folder is written down in one place."""

from __future__ import annotations

import ast
from pathlib import Path

from places import ROOT

from launchers.store.sweep_folder import SweepFolder, moved_note

NAMES = {
    "submissions", "submitit", "code", "report", "failures", "attempts", "sweep.yaml", "plan.json", "held.json",
    "last_known.json", "prefetched.json", ".lock", "cancelled.json", "job.json", "started.json", "outcome.json",
}  # fmt: skip


def test_no_other_module_builds_a_path() -> None:
    wrong = []
    for path in (ROOT / "launchers").rglob("*.py"):
        if path.parent.name == "store" and path.name in ("sweep_folder.py", "attempts.py"):
            continue
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                parts = [part.value for part in ast.walk(node.right) if isinstance(part, ast.Constant)]
                wrong += [f"{path}:{node.lineno}" for part in parts if part in NAMES]
        wrong += [
            f"{path}: {line.strip()}"
            for line in text.splitlines()
            if ".parent.parent" in line and "__file__" not in line
        ]
    assert not wrong


def test_a_record_and_a_run_know_their_sweep(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    assert SweepFolder.of_record(folder.submission(3)) == SweepFolder.of_run(folder.run("r-abc")) == folder
    assert moved_note(folder.submission(3), 7) == tmp_path / "s/submissions/3.moved/7.json"
    assert [path.name for path in folder.job_logs("7_1", 2)] == ["7_1_2_log.out", "7_1_2_log.err"]
