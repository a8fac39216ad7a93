"""What prefetch loads, and what it says of things that a run could not use."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from hyperformer.commands import load_check

TASKS = """
good: {template: "{text}", target: label, labels: ["no", "yes"], metrics: [accuracy]}
half: {template: "{text}", target: label, labels: ["no", "½"], metrics: [accuracy]}
"""


def faults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wanted: dict[str, dict]
) -> dict[str, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(wanted)))
    load_check.main()
    return json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("FAULTS "))


def test_each_thing_is_loaded_as_a_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks.yaml").write_text(TASKS, encoding="utf-8")
    for task, row in (("good", "a,yes"), ("half", "a,no")):
        (tmp_path / task).mkdir()
        for split in ("train", "validation", "test"):
            (tmp_path / task / f"{split}.csv").write_text(f"text,label\n{row}\n")
    (tmp_path / "good" / "test.csv").write_text("text,label\na,b,yes\n")
    toy = {"model_name_or_path": "toy", "data_source": "toy", "tasks": ["toy-sentiment"]}
    own = {
        **toy,
        "data_source": "folder",
        "data_dir": str(tmp_path),
        "task_file": str(tmp_path / "tasks.yaml"),
    }
    found = faults(
        monkeypatch,
        capsys,
        {
            "model toy (weights)": toy,
            "tokenizer toy": toy,
            "data set toy-sentiment (toy)": {**toy, "only_task": "toy-sentiment"},
            "data set good (folder)": {**own, "tasks": ["good"], "only_task": "good"},
            "data set good, no test": {**own, "tasks": ["good"], "only_task": "good", "do_test": False},
            "data set half (folder)": {**own, "tasks": ["half"], "only_task": "half"},
            "tokenizer ./nowhere": {**toy, "model_name_or_path": "./nowhere"},
        },
    )
    assert set(found) == {"data set good (folder)", "data set half (folder)", "tokenizer ./nowhere"}
    assert f"{tmp_path}/good/test.csv, line 2: has 3 fields" in found["data set good (folder)"]
    assert "'½' becomes '12'" in found["data set half (folder)"]
    assert "there is no such folder" in found["tokenizer ./nowhere"]
