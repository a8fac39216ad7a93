"""A run on tasks in T5's own form: its answers give its metrics again, and it answers rows without labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.superglue_rows import MAKERS, write_rows
from training.forked_runs import ForkedRuns

from hyperformer.answers.verify import verify_run
from hyperformer.cli import main


def test_questions_with_several_rows_or_answers(
    runs: ForkedRuns, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    rows = write_rows(tmp_path / "rows")
    tasks = ["superglue-multirc", "superglue-wsc", "superglue-record"]
    settings = {
        "mixing": "weights",
        "task_weights": {"superglue-multirc": 98, "superglue-wsc": 1, "superglue-record": 1},
        "eval_steps": 2,
        "save_steps": 1,
        "n_val": 4,
        "n_test": 4,
        "data_source": "folder",
        "data_dir": rows,
        "decode": "generate",
        "max_steps": 2,
    }
    # Killed after its first checkpoint, it counts what it drew before.
    assert runs.run(folder, at=("step", 2), tasks=tasks, **settings).codes == [-9]
    log = runs.whole(folder, tasks=tasks, **settings).out
    found = verify_run(folder)
    assert found.findings == () and len(found.answers) == 2 * len(tasks)
    result = json.loads((folder / "result.json").read_text())
    assert set(result["test"]["superglue-multirc"]) == {"f1a", "question_em"}
    assert found.answers["test", "superglue-multirc"].references[0].group
    drawn = result["drawn"]["superglue-multirc"]
    assert drawn == {"rows": 21, "share": 0.98, "drawn": 8}
    assert "superglue-multirc 21 (drawn at 98.0%)" in log and "superglue-multirc 8 (0.38 passes)" in log
    assert main(["rescore", str(folder)]) == 0
    asked = [
        {key: value for key, value in MAKERS["superglue-wsc"](number).items() if key != "label"}
        for number in (1, 2)
    ]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    capsys.readouterr()
    words = ["predict", str(folder), "--task", "superglue-wsc", "--input", str(tmp_path / "asked.jsonl")]
    assert main(words) == 0
    answered = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [set(row) - set(asked[0]) for row in answered] == [{"prediction"}] * 2
