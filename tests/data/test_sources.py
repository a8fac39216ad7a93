"""Rows from a folder, the hub and the generator, and what is said when they are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperformer.data.sources import load_rows
from hyperformer.data.tasks import TASKS
from hyperformer.errors import ConfigError, DataError

ROWS = [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}]


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(folder)


def json_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def load(folder: str, task: str = "rte"):
    return load_rows(TASKS[task], "train", source="folder", data_dir=folder)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_examples(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "rte" / f"train.{suffix}"
    path.parent.mkdir()
    if suffix == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif suffix in ("csv", "tsv"):
        comma = "," if suffix == "csv" else "\t"
        lines = [comma.join(ROWS[0]), *(comma.join(map(str, row.values())) for row in ROWS)]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        path.write_text(json_lines(ROWS) if suffix == "jsonl" else json.dumps(ROWS), encoding="utf-8")
    examples = [TASKS["rte"].example(row, prefix=False) for row in load(str(tmp_path))]
    assert examples == [("sentence1: a sentence2: b", "1"), ("sentence1: c sentence2: d", "0")]


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        ([], "rte", "no rows"),
        (
            [{"sentence1": "a", "label": 1}],
            "rte",
            "no column 'sentence2'; the task reads sentence1, sentence2",
        ),
        ([*ROWS, ROWS[0] | {"label": -1}], "rte", "row 2, column 'label': -1 is no label"),
        ([*ROWS, ROWS[0] | {"label": 2}], "rte", "row 2, column 'label': 2 is not a label"),
        ([*ROWS, ROWS[0] | {"sentence1": None}], "rte", "row 2, column 'sentence1': nothing there"),
        ([*ROWS, ROWS[0] | {"label": float("nan")}], "stsb", "nan is not a number from 0.0 to 5.0"),
        ([ROWS[0] | {"label": 5.5}], "stsb", "5.5 is not a number from 0.0 to 5.0"),
        ([ROWS[0] | {"label": "high"}], "stsb", "'high' is not a number"),
    ],
)
def test_rows_that_are_wrong(tmp_path: Path, rows: list[dict], task: str, message: str) -> None:
    folder = write(tmp_path, f"{task}/train.jsonl", json_lines(rows))
    with pytest.raises(DataError) as error:
        load(folder, task)
    assert message in str(error.value) and f"{task}/train.jsonl" in str(error.value)


def test_files_that_are_wrong(tmp_path: Path) -> None:
    folder = write(tmp_path, "rte/train.jsonl", json_lines(ROWS) + "{broken\n")
    with pytest.raises(DataError, match="train.jsonl, line 3: not JSON"):
        load(folder)
    write(tmp_path, "rte/train.jsonl", "[1, 2]\n")
    with pytest.raises(DataError, match="expected objects"):
        load(folder)
    (tmp_path / "rte" / "train.jsonl").unlink()
    write(tmp_path, "rte/train.parquet", "not parquet")
    with pytest.raises(DataError, match="train.parquet: cannot be read"):
        load(folder)


def test_what_is_looked_for_and_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        load(str(tmp_path / "none"))
    folder = write(tmp_path, "cola/train.jsonl", "")
    with pytest.raises(DataError, match="train.jsonl .*there are: cola"):
        load(folder)
    write(tmp_path, "rte/dev.jsonl", "")
    with pytest.raises(DataError, match="there are: dev.jsonl"):
        load(folder)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="needs data_dir"):
        load_rows(TASKS["rte"], "train", source="folder", data_dir=None)
    with pytest.raises(ConfigError, match="data_source=toy"):
        load_rows(TASKS["toy-sentiment"], "train", source="hub")
    with pytest.raises(ConfigError, match="data_source=hub, or data_source=folder"):
        load_rows(TASKS["rte"], "train", source="toy")
    with pytest.raises(ConfigError, match="did you mean 'folder'"):
        load_rows(TASKS["rte"], "train", source="foldr")


def test_unlabelled_rows_of_snli_are_no_error(tmp_path: Path) -> None:
    rows = [{"premise": "a", "hypothesis": "b", "label": label} for label in (0, -1, 2)]
    assert len(load(write(tmp_path, "snli/train.jsonl", json_lines(rows)), "snli")) == 3


@pytest.mark.parametrize("name", ["rte", "iwslt2017-en-nl"])
def test_the_hub_is_asked_for_the_right_thing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import datasets

    asked = {}

    def load_dataset(path, name=None, *, split, data_files=None):
        asked.update(path=path, name=name, split=split, data_files=data_files)
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as error:
        load_rows(TASKS[name], "train", source="hub")
    for part in (name, "Couldn't reach the hub", "HF_HUB_OFFLINE", "data_dir"):
        assert part in str(error.value)
    if name == "rte":
        assert asked == {"path": "nyu-mll/glue", "name": "rte", "split": "train", "data_files": None}
    else:
        files = "hf://datasets/IWSLT/iwslt2017@refs/convert/parquet/iwslt2017-en-nl/train/*.parquet"
        assert asked == {"path": "parquet", "name": None, "split": "train", "data_files": {"train": files}}


def test_the_real_library_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match="could not be loaded"):
        load_rows(TASKS["cola"], "train", source="hub")
