"""Which rows make which split: the authors' on request, theirs with two faults mended by default."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import REAL_DATA as REAL
from reference_files import reference, sha256

from hyperformer.data.examples import Examples
from hyperformer.data.splits import SplitRule, held_out_rows, load_split, source_split, split_indices
from hyperformer.data.tasks import TASKS, load_user_tasks
from hyperformer.errors import ConfigError, DataError
from hyperformer.settings.schema import DataConfig

SPLITS = reference("data/splits.json")


@pytest.mark.parametrize("name", SPLITS["tasks"])
def test_rows_are_the_authors_for_every_argument(name: str) -> None:
    for call, theirs in SPLITS["tasks"][name].items():
        split, flag, n_obs = call.split("|")
        split_validation = flag.endswith("True")
        base = source_split(TASKS[name], split, split_validation=split_validation)
        rows = None if n_obs.endswith("None") else int(n_obs.removeprefix("n_obs="))
        rule = SplitRule(n_obs=rows, split_validation=split_validation)
        indices = split_indices(TASKS[name], split, SPLITS["sizes"][base], rule)
        assert ([base], len(indices), sha256(indices)) == (theirs["base"], theirs["n"], theirs["sha256"]), (
            call
        )


def test_permutations_at_glues_real_sizes() -> None:
    for name, theirs in reference("data/splits_real_glue_sizes.json")["sizes"].items():
        for kind, task, splits in (
            ("half_validation", TASKS["rte"], ("validation", "test")),
            ("from_train", TASKS["sst2"], ("train", "validation")),
        ):
            for split in splits if kind in theirs else ():
                indices = split_indices(task, split, theirs[kind]["size"], SplitRule())
                assert sha256(indices) == theirs[kind][f"{split}_sha256"], (name, kind, split)


def folder_of(tmp_path: Path, task: str) -> str:
    """Rows that know their place, in the fixtures' sizes."""
    (tmp_path / task).mkdir()
    for split, size in SPLITS["sizes"].items():
        columns = TASKS[task].columns[:-1]
        rows = [dict.fromkeys(columns, f"row {place}") | {"label": 1} for place in range(size)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / task / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return str(tmp_path)


def places(examples: Examples) -> list[int]:
    """The row numbers in the sources."""
    return [int(source.rsplit(" ", 1)[1]) for source in examples.sources]


def load(folder: Path | str, task: str, split: str, **settings: Any) -> Examples:
    config = DataConfig(data_source="folder", data_dir=str(folder), **settings)
    return load_split(TASKS[task], split, config)


@pytest.mark.parametrize("name", SPLITS["as_main_calls_it"])
def test_reference_splits_are_what_the_authors_train_and_test_on(name: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, name)
    for split, theirs in SPLITS["as_main_calls_it"][name].items():
        rows = load(folder, name, split, reference_splits=True)
        assert sha256(np.array(places(rows))) == theirs["sha256"], split


def test_our_splits_share_no_row_and_lose_none(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "sst2")
    rows = {split: places(load(folder, "sst2", split)) for split in ("train", "validation", "test")}
    assert len(rows["validation"]) == held_out_rows(1_503) == 300
    assert sorted(rows["train"] + rows["validation"]) == list(range(1_503))
    assert len(rows["test"]) == SPLITS["sizes"]["validation"]


def test_a_thousand_rows_are_held_out_where_there_are_enough() -> None:
    assert [held_out_rows(n) for n in (67_349, 2_000, 1_999, 10)] == [1_000, 1_000, 399, 2]


def test_n_obs_takes_the_first_of_the_permuted_rows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "rte")
    assert places(load(folder, "rte", "train", n_train=7)) == places(load(folder, "rte", "train"))[:7]
    assert len(load(folder, "rte", "validation", n_train=7, n_val=5)) == 5


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "rte"
    folder.mkdir()
    (folder / "validation.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "label": 0}\n')
    with pytest.raises(DataError, match="'validation' would be empty: it is made of 1 rows"):
        load(tmp_path, "rte", "validation")
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        load(tmp_path, "rte", "trian")


def test_snli_rows_without_label_are_left_out_but_for_reference(tmp_path: Path) -> None:
    (tmp_path / "snli").mkdir()
    rows = [{"premise": "a", "hypothesis": "b", "label": label} for label in (0, -1, 2, 1)]
    (tmp_path / "snli" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert sorted(load(tmp_path, "snli", "train").targets) == ["0", "1", "2"]
    assert load(tmp_path, "snli", "train", reference_splits=True).targets == ["0", "-1", "2"]


def own_file(tmp_path: Path, rows: int, split: str = "80/10/10", **more: Any) -> DataConfig:
    """A run's settings with a task `notes` whose rows are in one file."""
    lines = [f"row {number},{'yes' if number % 2 else 'no'},{number // 4}" for number in range(rows)]
    (tmp_path / "notes.csv").write_text("\n".join(["text,label,page", *lines]) + "\n")
    task = {"template": "{text}", "target": "label", "labels": ["no", "yes"], "metrics": ["accuracy"], **more}
    tasks = {"notes": {**task, "data": "notes.csv", "split": split}}
    (tmp_path / "tasks.yaml").write_text(json.dumps(tasks))
    return DataConfig(task_file=str(tmp_path / "tasks.yaml"), tasks=("notes",))


def test_one_file_is_cut_in_three(tmp_path: Path) -> None:
    data = own_file(tmp_path, 50)
    task = load_user_tasks(str(data.task_file))["notes"]
    rows = {split: places(load_split(task, split, data)) for split in ("train", "validation", "test")}
    assert {split: len(found) for split, found in rows.items()} == {"train": 40, "validation": 5, "test": 5}
    assert sorted(sum(rows.values(), [])) == list(range(50))
    assert rows["test"] == [25, 0, 8, 36, 18]  # of every start, on every machine
    # The same, whatever the run reads for its other tasks, and from a data set that has training rows only.
    folder = tmp_path / "folder/notes"
    folder.mkdir(parents=True)
    (folder / "train.csv").write_bytes((tmp_path / "notes.csv").read_bytes())
    elsewhere = DataConfig(data_source="folder", data_dir=str(folder.parent))
    assert places(load_split(task, "test", elsewhere)) == rows["test"]
    assert places(load_split(replace(task, file=None), "test", elsewhere)) == rows["test"]
    with pytest.raises(ConfigError, match="the authors have no task such as notes"):
        load_split(task, "train", DataConfig(reference_splits=True))


def test_one_file_that_cannot_be_cut(tmp_path: Path) -> None:
    data = own_file(tmp_path, 9, "90/5/5")
    task = load_user_tasks(str(data.task_file))["notes"]
    with pytest.raises(
        DataError, match="'validation' would be empty: it is made of 9 rows of 'train' by split: 90/5/5"
    ):
        load_split(task, "validation", data)
    (tmp_path / "notes.csv").unlink()
    with pytest.raises(DataError, match=r"Task 'notes': data .*notes.csv: there is no such file"):
        load_split(task, "train", data)


def test_questions_of_one_file_stay_together(tmp_path: Path) -> None:
    data = own_file(tmp_path, 40, "50/25/25", group="{page}")
    task = load_user_tasks(str(data.task_file))["notes"]
    splits = [load_split(task, split, data) for split in ("train", "validation", "test")]
    pages = [{one.group for one in split.references} for split in splits]
    assert [len(found) for found in pages] == [5, 2, 3] and len(set.union(*pages)) == 10


@pytest.mark.skipif(REAL is None, reason="no real rows: set HYPERFORMER_DATA to a folder of GLUE tasks")
@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"])
def test_real_rows(name: str) -> None:
    sizes = {split: len(load(str(REAL), name, split)) for split in ("train", "validation", "test")}
    if TASKS[name].size == "small":
        assert abs(sizes["validation"] - sizes["test"]) <= 1
    if TASKS[name].size == "large":
        assert sizes["validation"] == 1_000
    assert min(sizes.values()) > 30
