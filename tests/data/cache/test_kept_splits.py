"""A start from the cache reads no row, and has the very rows that are there now."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from transformers import AutoTokenizer

import hyperformer.data
from hyperformer.data import dataset, sources
from hyperformer.data.cache import file_hash
from hyperformer.data.cache.array_file import keep_arrays, read_arrays
from hyperformer.data.dataset import TokenizedSplit, load_tokenized, tokenize_split
from hyperformer.data.splits import load_split
from hyperformer.data.tasks import TASKS, Task
from hyperformer.files import expand_home, user_cache
from hyperformer.settings.schema import DataConfig

TOY_T5 = Path(hyperformer.data.__file__).parent / "assets" / "toy-t5"
TASK = Task("copy", "say: {source}", "target", ("accuracy",), labels=("yes", "no"))
SQUAD = Task(
    "answers", "{source}", "target", ("squad",), answer_tokens=9, group="{source}", accepted="all"
)  # fmt: skip


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(TOY_T5)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    monkeypatch.setattr(file_hash, "_CACHE", tmp_path / "hashes")
    for task in (TASK, SQUAD):
        (tmp_path / task.name).mkdir()
        for split in ("train", "validation", "test"):
            lines = [
                {
                    "source": f"the {split} cat {row}",
                    "target": ("yes", "no")[row % 2],
                    "all": ["yes", f"é {row}"],
                }
                for row in range(9)
            ]
            (tmp_path / task.name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return DataConfig(data_source="folder", data_dir=str(tmp_path), cache_dir=str(tmp_path))


def contents(split: TokenizedSplit) -> list[Any]:
    """All that a split holds, in plain values."""
    ids = [
        [row.tolist() for row in rows.take(range(len(split)))]
        for rows in (split.source_ids, split.target_ids)
    ]
    texts = [list(column) for column in (split.target_texts, split.row_hashes, split.references)]
    return [*ids, *texts, split.truncated_sources, split.truncated_targets, split.fingerprint]


def load(
    tokenizer, config: DataConfig, split: str = "validation", task: Task = TASK, **more: Any
) -> list[Any]:
    return contents(load_tokenized(task, split, tokenizer, config, **{"prefix": True, **more}))


def names(config: DataConfig) -> set[str]:
    return {path.name for path in Path(str(config.cache_dir), "tokenized").iterdir()}


@pytest.mark.parametrize("task", [TASK, SQUAD], ids=lambda task: task.name)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_start_from_the_cache_is_bit_identical_and_reads_no_row(
    tokenizer, config: DataConfig, monkeypatch: pytest.MonkeyPatch, task: Task, split: str
) -> None:
    examples = load_split(task, split, config, prefix=True)
    begun = load_tokenized(task, split, tokenizer, config, prefix=True)
    assert isinstance(begun.source_ids.ids, np.memmap)
    first = contents(begun)
    monkeypatch.setattr(sources, "read_file", lambda path: pytest.fail("read again"))
    assert load(tokenizer, config, split, task) == first
    elsewhere = dataclasses.replace(config, cache_dir=f"{config.cache_dir}/other")
    made = tokenize_split(examples, task, tokenizer, elsewhere)
    hashes = examples.row_hashes() if split != "train" else []
    assert first == contents(dataclasses.replace(made, row_hashes=hashes))
    assert first[2:5] == [list(examples.targets), hashes, list(examples.references)]


def test_all_that_decides_the_rows_is_in_the_name(tokenizer, config: DataConfig, tmp_path: Path) -> None:
    def other(**changes: Any) -> DataConfig:
        return dataclasses.replace(config, **changes)

    known = AutoTokenizer.from_pretrained(TOY_T5)
    known.add_tokens(["zat"])
    starts: list[Callable[[], Any]] = [
        lambda: load(tokenizer, config),
        lambda: load(tokenizer, config, prefix=False),
        lambda: load(tokenizer, config, "test"),
        lambda: load(tokenizer, config, task=dataclasses.replace(TASK, template="ask: {source}")),
        lambda: load(tokenizer, config, task=dataclasses.replace(TASK, label_map={"yes": "no", "no": "yes"})),
        lambda: load(tokenizer, config, task=dataclasses.replace(TASK, split=("50", "30", "20"))),
        lambda: load(tokenizer, other(n_val=3)),
        lambda: load(tokenizer, other(max_source_length=4)),
        lambda: load(tokenizer, other(max_target_length=2)),
        lambda: load(tokenizer, other(reference_splits=True)),
        lambda: load(known, config),
    ]
    for number, start in enumerate(starts, 1):
        start()
        assert len(names(config)) == number
    load(tokenizer, other(n_train=3, n_test=3, temperature=2.0, group_by_length=True))
    moved = other(data_dir=str(tmp_path / "moved"))
    (tmp_path / "moved").mkdir()
    (tmp_path / TASK.name).rename(tmp_path / "moved" / TASK.name)
    load(tokenizer, moved)
    assert len(names(config)) == len(starts)


@pytest.mark.parametrize("remembered", [True, False])
def test_a_changed_file_gives_its_own_rows(
    tokenizer, config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    if remembered:  # as if it were large, and written long ago
        monkeypatch.setattr(file_hash, "_WORTH_A_NOTE", 0)
        monkeypatch.setattr(file_hash, "_SETTLED_S", -1e9)
    path = tmp_path / TASK.name / "validation.jsonl"
    os.utime(path, (1, 1))
    first = load(tokenizer, config)
    assert (tmp_path / "hashes").exists() == remembered
    content = path.read_bytes()
    path.write_bytes(content.replace(b"cat", b"men"))  # the same size, and the time set back
    os.utime(path, (1, 1))
    changed = load(tokenizer, config)
    assert changed[0] != first[0] and changed[-1] != first[-1]
    path.write_bytes(content)
    assert load(tokenizer, config) == first
    path.unlink()
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(content.replace(b"yes", b"no")))
    assert load(tokenizer, config)[1] != first[1]


def test_a_file_that_changes_while_it_is_read_is_kept_under_no_name(
    tokenizer, config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = tmp_path / TASK.name / "validation.jsonl", sources.read_file

    def read_and_change(file: Path):
        rows = read(file)
        path.write_text(path.read_text().replace("cat", "men"))
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(sources, "read_file", read_and_change)
        first = load(tokenizer, config)
    assert not (tmp_path / "tokenized").exists()
    assert load(tokenizer, config)[0] != first[0]


def test_rows_of_the_hub_are_named_by_their_values(
    tokenizer, config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    rte = [{"sentence1": "a", "sentence2": text, "label": row % 2} for row, text in enumerate("bcdefgh")]

    def hub(data: datasets.Dataset) -> list[Any]:
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: data)
        return load(tokenizer, dataclasses.replace(config, data_source="hub"), task=TASKS["rte"])

    whole = datasets.Dataset.from_list(rte)
    first = hub(whole)
    sliced = datasets.Dataset(datasets.table.InMemoryTable(pyarrow.concat_tables([whole.data.table] * 2)[7:]))
    assert hub(sliced) == first and len(names(config)) == 1
    assert hub(datasets.Dataset.from_list([*rte[:6], {**rte[6], "sentence2": "i"}])) != first
    assert hub(datasets.Dataset.from_list([*rte[:6], {**rte[6], "label": 1}])) != first
    assert len(names(config)) == 3


def test_two_that_make_one_file_at_the_same_time(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(50_001, dtype=np.int32),
        "b": np.arange(3, dtype=np.uint8),
        "c": np.zeros(0, np.uint8),
    }
    path = tmp_path / "tokenized" / "one.bin"
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("error")
        found = list(pool.map(lambda _: (keep_arrays(path, {"n": 1}, arrays), read_arrays(path)), range(12)))
    for facts, read in (one for pair in found for one in pair if one):
        assert facts == {"n": 1}
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == array.dtype
    assert list(path.parent.iterdir()) == [path]


def test_a_user_without_a_home_keeps_nothing(
    tokenizer, config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    known = load(tokenizer, config)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr(dataset, "CACHE", user_cache())
    monkeypatch.setattr(file_hash, "_CACHE", user_cache())
    monkeypatch.setattr(file_hash, "_WORTH_A_NOTE", 1)
    with pytest.warns(UserWarning, match="tokenised rows are not kept .* or set cache_dir to a folder"):
        assert load(tokenizer, dataclasses.replace(config, cache_dir=None)) == known
    assert expand_home("~/a") == Path("~/a")  # Path.expanduser raises RuntimeError
