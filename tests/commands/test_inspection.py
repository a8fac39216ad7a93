"""``hyperformer data`` and ``hyperformer list``, and ``data`` of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.superglue_rows import write_rows

from hyperformer.cli import main
from hyperformer.data.metrics import METRICS
from hyperformer.data.tasks import TASKS
from hyperformer.settings.config_files import CONFIGS
from launchers import sweep

TOY = ["model_name_or_path=toy", "data_source=toy"]


def test_data_shows_what_the_model_sees(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tasks=toy-sentiment,toy-similarity", "max_source_length=12", "n_train=40", "mixing=equal"]
    assert main(["data", "finetune", *TOY, *words, "--rows", "2"]) == 0
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert lines[0].startswith("toy-sentiment: prefix 'toy-sentiment'; labels 0, 1; metrics accuracy;")
    assert lines[1] == "  train: 40 rows" and "are cut at max_source_length=12" in lines[2]
    counts = [int(part.split(" ")[1]) for part in lines[4].removeprefix("    answers: ").split(", ")]
    assert sum(counts) == 40 and len(counts) == 2
    assert lines[5].startswith("    row 0 source: toy-sentiment sentence: ")
    assert "12 tokens (" in lines[6] and lines[6].endswith("</s>")
    assert [line.split(":")[0] for line in lines[7:13]] == [
        "    row 0 target",
        lines[8].split(":")[0],
        "    row 1 source",
        lines[10].split(":")[0],
        "    row 1 target",
        lines[12].split(":")[0],
    ]
    assert told.count("row 2 ") == 0 and "  validation: " in told and "  test: " in told
    assert lines[-1] == "mixing=equal: batches are drawn of toy-sentiment 50.0%, toy-similarity 50.0%"


def test_data_names_every_task_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows(tmp_path)
    bad = tmp_path / "superglue-copa/train.jsonl"
    row = json.loads(bad.read_text().splitlines()[0])
    bad.write_text(json.dumps(row | {"premise": "\x1b[31m evil", "label": 5}) + "\n")
    words = [f"data_dir={rows}", "data_source=folder", "model_name_or_path=toy", "decode=rank"]
    assert (
        main(["data", "adapters_dagger", *words, "tasks=superglue-copa,superglue-record,superglue-wic"]) == 2
    )
    told = capsys.readouterr()
    assert "2 tasks cannot be used" in told.err and "superglue-copa" in told.err
    assert "decode=rank chooses among a task's labels, and superglue-record has none" in told.err
    assert (
        "superglue-wic: no prefix" in told.out and "  test: " in told.out
    )  # the others are shown all the same
    bad.write_text(json.dumps(row | {"premise": "\x1b[31m evil"}) + "\n")
    assert main(["data", "adapters_dagger", *words, "tasks=superglue-copa", "n_val=1"]) == 0
    told = capsys.readouterr()
    assert "\\x1b[31m evil" in told.out and "\x1b" not in told.out
    for wrong in (["--rows", "-1", *TOY], TOY):
        assert (
            main(["data", "adapters", *wrong, *(["tasks="] if wrong is TOY else ["tasks=toy-sentiment"])])
            == 2
        )


def test_data_counts_rows_that_are_tested_and_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"the film was good,{number % 2}" for number in range(2)] * 10
    (tmp_path / "notes.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    (tmp_path / "tasks.yaml").write_text(
        "notes: {template: '{a}', target: b, labels: [0, 1], metrics: [accuracy], data: notes.csv, split: 50/25/25}"
    )
    words = ["model_name_or_path=toy", f"task_file={tmp_path}/tasks.yaml", "tasks=notes"]
    assert main(["data", "adapters", *words]) == 0
    assert capsys.readouterr().out.count("    5 of its rows are also in train") == 2


def test_data_of_a_sweep_shows_each_task_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "variants: [hyperformer++, adapters]\ntasks: [toy-sentiment, toy-similarity]\n"
        "base: {model_name_or_path: toy, data_source: toy, max_steps: 9, warmup_steps: 1}\n"
        "grid: {seed: [1, 2, 3]}\n"
    )
    assert sweep.main(["data", str(path), "--runs-dir", str(tmp_path / "runs"), "--rows", "1"]) == 0
    told = capsys.readouterr().out
    assert [line.split(":")[0] for line in told.splitlines() if not line.startswith(" ")][:2] == [
        "toy-sentiment",
        "toy-similarity",
    ]
    assert told.count("row 0 source") == 2 and not (tmp_path / "runs").exists()


def test_lists_name_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = {"variants": CONFIGS.names(), "configs": CONFIGS.names(), "tasks": TASKS, "metrics": METRICS}
    for kind, names in known.items():
        assert main(["list", kind]) == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert {line.split("  ")[0] for line in lines} == set(names) and first.startswith(
            kind.removesuffix("s")
        )
    own = tmp_path / "tasks.yaml"
    own.write_text(
        "mine: {template: '{a}', target: b, labels: [x], metrics: [accuracy], data: m.csv, split: 8/1/91}"
    )
    assert main(["list", "tasks", "--task-file", str(own)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "mine"
    assert main(["list", "metrics", "--task-file", str(own)]) == 2
