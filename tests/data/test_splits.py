"""Which rows make which split: the authors' on request, theirs with two faults mended by default."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from places import REAL_DATA as REAL
from reference_files import reference, sha256

from hyperformer.data.splits import held_out_rows, load_split, source_split, split_indices
from hyperformer.data.tasks import TASKS
from hyperformer.errors import ConfigError, DataError

SPLITS = reference("data/splits.json")


@pytest.mark.parametrize("name", SPLITS["tasks"])
def test_rows_are_the_authors_for_every_argument(name: str) -> None:
    for call, theirs in SPLITS["tasks"][name].items():
        split, flag, n_obs = call.split("|")
        split_validation = flag.endswith("True")
        base = source_split(TASKS[name], split, split_validation=split_validation)
        indices = split_indices(
            TASKS[name],
            split,
            SPLITS["sizes"][base],
            held_out=1_000,
            n_obs=None if n_obs.endswith("None") else int(n_obs.removeprefix("n_obs=")),
            split_validation=split_validation,
        )
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
                indices = split_indices(task, split, theirs[kind]["size"], held_out=1_000, n_obs=None)
                assert sha256(indices) == theirs[kind][f"{split}_sha256"], (name, kind, split)


def folder_of(tmp_path: Path, task: str) -> str:
    """Rows that know their place, in the fixtures' sizes."""
    columns = {column: "text" for column in TASKS[task].columns[:-1]}
    (tmp_path / task).mkdir()
    for split, size in SPLITS["sizes"].items():
        rows = [columns | {"label": 1, "place": place} for place in range(size)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / task / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return str(tmp_path)


@pytest.mark.parametrize("name", SPLITS["as_main_calls_it"])
def test_reference_splits_are_what_the_authors_train_and_test_on(name: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, name)
    for split, theirs in SPLITS["as_main_calls_it"][name].items():
        rows = load_split(TASKS[name], split, source="folder", data_dir=folder, reference_splits=True)
        import numpy as np

        assert sha256(np.array(rows["place"])) == theirs["sha256"], split


def test_our_splits_share_no_row_and_lose_none(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "sst2")
    places = {
        split: list(load_split(TASKS["sst2"], split, source="folder", data_dir=folder)["place"])
        for split in ("train", "validation", "test")
    }
    assert len(places["validation"]) == held_out_rows(1_503) == 300
    assert sorted(places["train"] + places["validation"]) == list(range(1_503))
    assert len(places["test"]) == SPLITS["sizes"]["validation"]


def test_a_thousand_rows_are_held_out_where_there_are_enough() -> None:
    assert [held_out_rows(n) for n in (67_349, 2_000, 1_999, 10)] == [1_000, 1_000, 399, 2]


def test_n_obs_takes_the_first_of_the_permuted_rows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "rte")
    all_rows = load_split(TASKS["rte"], "train", source="folder", data_dir=folder)
    some = load_split(TASKS["rte"], "train", source="folder", data_dir=folder, n_obs=7)
    assert list(some["place"]) == list(all_rows["place"])[:7]
    for bad in (0, -1):
        with pytest.raises(ConfigError, match="n_obs"):
            load_split(TASKS["rte"], "train", source="folder", data_dir=folder, n_obs=bad)


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "rte"
    folder.mkdir()
    (folder / "validation.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "label": 0}\n')
    with pytest.raises(DataError, match="'validation' would be empty: it is made of 1 rows"):
        load_split(TASKS["rte"], "validation", source="folder", data_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        load_split(TASKS["rte"], "trian", source="folder", data_dir=str(tmp_path))


def test_snli_rows_without_label_are_left_out_but_for_reference(tmp_path: Path) -> None:
    (tmp_path / "snli").mkdir()
    rows = [{"premise": "a", "hypothesis": "b", "label": label} for label in (0, -1, 2, 1)]
    (tmp_path / "snli" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ours = load_split(TASKS["snli"], "train", source="folder", data_dir=str(tmp_path))
    theirs = load_split(
        TASKS["snli"], "train", source="folder", data_dir=str(tmp_path), reference_splits=True
    )
    assert sorted(ours["label"]) == [0, 1, 2]
    assert list(theirs["label"]) == [0, -1, 2]


@pytest.mark.skipif(REAL is None, reason="no real rows: set HYPERFORMER_DATA to a folder of GLUE tasks")
@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"])
def test_real_rows(name: str) -> None:
    sizes = {
        split: len(load_split(TASKS[name], split, source="folder", data_dir=str(REAL)))
        for split in ("train", "validation", "test")
    }
    if TASKS[name].size == "small":
        assert abs(sizes["validation"] - sizes["test"]) <= 1
    if TASKS[name].size == "large":
        assert sizes["validation"] == 1_000
    assert min(sizes.values()) > 30
