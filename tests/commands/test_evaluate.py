"""``hyperformer evaluate``: metrics of rows with labels, the same as training's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trained_models import make_adapter, make_base

from hyperformer.adapters.trained_model import load_trained
from hyperformer.cli import main
from hyperformer.commands.predict import Predictor
from hyperformer.data.label_checks import check_labels
from hyperformer.data.metrics import compute_metrics
from hyperformer.data.tasks import TASKS
from hyperformer.data.tasks.task import Task

TEXT = "the men gave cars to the man who was there in the house "
ROWS = [{"sentence1": TEXT[number:], "sentence2": "he was", "label": number % 2} for number in range(14)]
OWN = (
    'ours: {template: "{sentence1}", target: label, labels: [the, men, he], metrics: [macro_f1, exact_match]}'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """t5/, and adapters on it: adapter/, run/adapter/, ours/ with a task of its own."""
    path = tmp_path_factory.mktemp("models")
    base = make_base(path / "t5")
    make_adapter(path / "run" / "adapter", base)
    (path / "tasks.yaml").write_text(OWN)
    make_adapter(path / "ours", base, tasks=["ours"], task_file=str(path / "tasks.yaml"))
    return path


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hyperformer.data.dataset.CACHE", tmp_path / "cache")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def label_checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The task of each check of labels."""
    checked: list[str] = []

    def count(task: Task, *words: Any, **more: Any) -> None:
        checked.append(task.name)
        check_labels(task, *words, **more)

    monkeypatch.setattr("hyperformer.commands.predict.check_labels", count)
    monkeypatch.setattr("hyperformer.commands.evaluate.check_labels", count)
    return checked


def evaluate(model: Path, task: str, *arguments: object) -> int:
    return main(["evaluate", str(model), "--task", task, *map(str, arguments)])


@pytest.mark.parametrize("decode", ["generate", "constrained", "rank"])
def test_metrics_are_those_of_the_answers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], label_checks: list[str], decode: str
) -> None:
    rows = write(tmp_path / "rows.jsonl", ROWS)
    assert evaluate(folder / "run", "mrpc", "--input", rows, "--decode", decode, "--batch-size", 7) == 0
    assert label_checks == ["mrpc"]
    printed = json.loads(capsys.readouterr().out)
    predictor = Predictor(load_trained(folder / "run"), "mrpc", decode=decode)
    sources = [f"sentence1: {row['sentence1']} sentence2: {row['sentence2']}" for row in ROWS]
    answers = [answer for at in (0, 5, 10) for answer in predictor.answers(sources[at : at + 5])]
    expected = compute_metrics(TASKS["mrpc"], answers, [str(row["label"]) for row in ROWS])
    assert printed == {
        "task": "mrpc",
        "model": str(folder / "run"),
        "input": str(rows),
        "decode": decode,
        "rows": 14,
        "metrics": expected,
    }
    if decode == "rank":
        assert 0 < expected["acc"] < 100
    kept, again = tmp_path / "kept.jsonl", ("--decode", decode, "--batch-size", 7)
    assert evaluate(folder / "run", "mrpc", "--input", rows, *again, "--answers", kept) == 0
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    targets, scored = [line["target"] for line in lines], [str(line["answer"]) for line in lines]
    assert targets == [str(row["label"]) for row in ROWS]
    assert compute_metrics(TASKS["mrpc"], scored, targets) == expected
    assert all(
        ("label_logprobs" in line) == (line["generated"] is None) == (decode == "rank") for line in lines
    )


def test_own_tasks_from_csv(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text('sentence1,label\n"he, there",he\nthe men,men\n')
    assert evaluate(folder / "ours", "ours", "--input", rows, "--decode", "rank") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["rows"] == 2 and set(printed["metrics"]) == {"macro_f1", "exact_match"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": -1}, "line 3: column 'label': '-1' is no label"),
        ({"label": None}, "line 3: column 'label' has no value"),
        ({"label": 2}, "line 3: column 'label': '2' is not a label"),
        ({"sentence1": None}, "line 3: column 'sentence1' has no value"),
    ],
)
def test_rows_that_cannot_be_scored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict, message: str
) -> None:
    rows = write(tmp_path / "rows.jsonl", [*ROWS[:2], ROWS[2] | changes])
    assert evaluate(folder / "run", "mrpc", "--input", rows, "--decode", "rank") == 2
    found = capsys.readouterr()
    assert message in found.err and found.out == ""


def test_labels_are_looked_at_as_in_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path / "rows.jsonl", [ROWS[0] | {"label": 0.6}])
    assert evaluate(folder / "run", "stsb", "--input", rows) == 2
    assert "'0.6' and '0.7' and '0.9'" in capsys.readouterr().err


def test_text_and_columns_that_are_not_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path / "rows.txt", ROWS)
    assert evaluate(folder / "run", "mrpc", "--input", rows, "--input-format", "text") == 2
    assert "lines of text have no columns" in capsys.readouterr().err
    rows = write(tmp_path / "rows.jsonl", [{"sentence1": "a"}])
    assert evaluate(folder / "run", "mrpc", "--input", rows) == 2
    assert "no column 'sentence2', 'label'" in capsys.readouterr().err
