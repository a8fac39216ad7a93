"""What a run reads is changed between its start and its resume: seen, and named, by whatever can see it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from training.forked_runs import ForkedRuns


def write_rows(folder: Path, split: str, labels: list[int]) -> None:
    (folder / "cola").mkdir(parents=True, exist_ok=True)
    rows = [{"sentence": f"sentence {number}", "label": label} for number, label in enumerate(labels)]
    (folder / f"cola/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split in ("train", "validation"):
        write_rows(tmp_path / "data", split, [0, 1] * 8)
    return tmp_path / "data"


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("seen_by", ["contents", "inputs"])
def test_labels_turned_round_in_the_middle(
    split: str, seen_by: str, data: Path, runs: ForkedRuns, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "tasks": ["cola"], "data_source": "folder", "data_dir": str(data), "n_train": None, "n_val": None,
        "n_test": None,
    }  # fmt: skip
    stopped = runs.run(tmp_path / "run", at=("step", 3), signal=signal.SIGTERM, **settings)
    assert stopped.codes == [143], stopped.out
    if seen_by == "inputs":  # as where files are not hashed before the start: the hub's
        record = json.loads((tmp_path / "run/config.json").read_text())
        del record["contents"]
        (tmp_path / "run/config.json").write_text(json.dumps(record))
    write_rows(data, split, [1, 0] * 8)
    ended = runs.run(tmp_path / "run", **settings)
    assert ended.codes == [2] and "changed" in ended.out, ended.out
    assert ("data_dir" if seen_by == "contents" else f"the rows of cola {split} (were ") in ended.out
    write_rows(data, split, [0, 1] * 8)
    ended = runs.whole(tmp_path / "run", **settings)
    assert "resuming from step 3" in ended.out
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert result["ranks"] == 1 and result["base_model_revision"] is None
    assert set(result["inputs"]["rows"]) == {"cola train", "cola validation", "cola test"}
