"""Rows from a folder, the hub and the generator, and the errors for rows that a task cannot use."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from hyperformer import hub_access
from hyperformer.data.examples import Examples, make_examples
from hyperformer.data.sources import load_rows
from hyperformer.data.tasks import TASKS, Task
from hyperformer.errors import ConfigError, DataError

ROWS = [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}]


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(folder)


def write_parquet(folder: Path, name: str, rows: list[dict] | pyarrow.Table) -> str:
    table = rows if isinstance(rows, pyarrow.Table) else pyarrow.Table.from_pylist(rows)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, folder / name)
    return str(folder)


def json_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def load(folder: str, task: Task | str = "rte") -> Examples:
    task = TASKS[task] if isinstance(task, str) else task
    return make_examples(task, load_rows(task, "train", source="folder", data_dir=folder), prefix=False)


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_examples(tmp_path: Path, suffix: str) -> None:
    scores = [0.0, 0.05, 0.85, 1.15, 2.5, 5.0]
    rows = [{"sentence1": f"a{n}", "sentence2": "b", "label": score} for n, score in enumerate(scores)]
    name = f"stsb/train.{suffix}"
    if suffix == "parquet":
        folder = write_parquet(tmp_path, name, rows)
    elif suffix in ("csv", "tsv"):
        sign = "," if suffix == "csv" else "\t"
        lines = [sign.join(rows[0]), *(sign.join(map(str, row.values())) for row in rows)]
        folder = write(tmp_path, name, "\n".join(lines))
    else:
        folder = write(tmp_path, name, json_lines(rows) if suffix == "jsonl" else json.dumps(rows))
    examples = load(folder, "stsb")
    assert examples.sources == [f"sentence1: a{n} sentence2: b" for n in range(6)]
    # Rounded as the hub's float32 is, from whatever file.
    assert examples.targets == ["0.0", "0.1", "0.9", "1.1", "2.5", "5.0"]


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        ([], "rte", "no rows"),
        (
            [{"sentence1": "a", "label": 1}],
            "rte",
            "no column 'sentence2'; the task reads sentence1, sentence2, label, and there are: 'sentence1', 'label'",
        ),
        ([*ROWS, ROWS[0] | {"label": -1}], "rte", "line 3: column 'label': '-1' is no label"),
        ([*ROWS, ROWS[0] | {"label": 2}], "rte", "line 3: column 'label': '2' is not a label"),
        ([*ROWS, ROWS[0] | {"label": 1.0}], "rte", "line 3: column 'label': '1.0' is not a label"),
        ([*ROWS, ROWS[0] | {"label": None}], "rte", "line 3: column 'label' has no value"),
        ([*ROWS, ROWS[0] | {"label": True}], "rte", "line 3: column 'label': 'True' is not a label"),
        ([*ROWS, {"sentence1": "a", "label": 1}], "rte", "line 3: column 'sentence2' has no value"),
        ([*ROWS, ROWS[0] | {"sentence1": None}], "rte", "line 3: column 'sentence1' has no value"),
        ([*ROWS, ROWS[0] | {"sentence1": ["a"]}], "rte", "holds a list; name the part that is meant"),
        ([*ROWS, ROWS[0] | {"sentence1": {"en": "a"}}], "rte", "such as sentence1[en]"),
        ([*ROWS, ROWS[0] | {"label": 7}, ROWS[0] | {"label": 8}], "rte", "(2 such rows in all)"),
        ([ROWS[0] | {"label": 5.5}], "stsb", "'5.5' is not a number from 0.0 to 5.0"),
        ([ROWS[0] | {"label": "high"}], "stsb", "'high' is not a number"),
        ([{"translation": {"en": "a"}}], "wmt16-ro-en", "line 1: column 'translation[ro]' has no value"),
        ([{"translation": "a"}], "wmt16-ro-en", "line 1: column 'translation[en]' has no value"),
        (
            [{"translation": {"en": "", "ro": "a"}}],
            "wmt16-ro-en",
            "line 1: column 'translation[en]': '' is no label",
        ),
        ([{"ctx": "a", "endings": ["b"] * 3, "label": 0}], "hellaswag", "'endings[3]' has no value"),
    ],
)
def test_rows_that_are_wrong(tmp_path: Path, rows: list[dict], task: str, message: str) -> None:
    folder = write(tmp_path, f"{task}/train.jsonl", json_lines(rows))
    with pytest.raises(DataError) as error:
        load(folder, task)
    assert message in str(error.value) and f"{task}/train.jsonl" in str(error.value)


def test_only_what_the_task_reads_is_looked_at(tmp_path: Path) -> None:
    odd: list[Any] = [1, "x", None, {"a": 1}, [1, "x"], 1.5, True]
    rows = [ROWS[0] | {"odd": value} for value in odd] + [ROWS[1]]
    assert load(write(tmp_path, "rte/train.jsonl", json_lines(rows))).targets == ["1"] * 7 + ["0"]
    pairs = [{"translation": {"en": "a", "ro": "b", "de": value}} for value in odd]
    assert len(load(write(tmp_path, "wmt16-ro-en/train.jsonl", json_lines(pairs)), "wmt16-ro-en")) == 7


def test_a_value_is_written_as_it_stands(tmp_path: Path) -> None:
    """Whatever stands in the other rows: no number becomes another for a column's sake."""
    task = Task("copy", "{text}", "label", ("accuracy",), answer_tokens=3)
    values = [1, "1", 1.5, True, 2**70, "", " a ", 'say "no"', "{x}", "a\nb\u2028c"]
    rows = [{"text": value, "label": "x"} for value in values]
    assert load(write(tmp_path, "copy/train.jsonl", json_lines(rows)), task).sources == list(map(str, values))


def test_parquet_columns_of_other_types(tmp_path: Path) -> None:
    task = Task("copy", "{text}", "label", ("accuracy",), answer_tokens=3)
    for value, text in (
        (b"caf\xc3\xa9", "café"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (decimal.Decimal("1.50"), "1.50"),
        (3, "3"),
    ):
        folder = write_parquet(tmp_path, "copy/train.parquet", [{"text": value, "label": b"t6"}])
        examples = load(folder, task)
        assert (examples.sources[0], examples.targets) == (text, ["t6"])
    category = pyarrow.table({"text": pyarrow.array(["a", "b", "a"]).dictionary_encode(), "label": ["x"] * 3})
    assert load(write_parquet(tmp_path, "copy/train.parquet", category), task).sources == ["a", "b", "a"]
    for good, value, message in (
        (b"a", b"\xff", "row 1 (from 0): column 'text' holds bytes that are not UTF-8"),
        (1.0, float("nan"), "row 1 (from 0): column 'text' has no value"),
        (1.0, float("inf"), "is inf, which is not a finite number"),
        (
            datetime.timedelta(0),
            datetime.timedelta(1),
            "holds a timedelta, which is neither text nor a number",
        ),
    ):
        rows = [{"text": good, "label": "x"}, {"text": value, "label": "x"}]
        with pytest.raises(DataError) as error:
            load(write_parquet(tmp_path, "copy/train.parquet", rows), task)
        assert message in str(error.value)


def test_a_folder_name_is_no_column(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "label=1", "rte/train.parquet", [{"sentence1": "a", "sentence2": "b"}])
    with pytest.raises(DataError, match="no column 'label'"):
        load(folder)


def test_two_files_for_one_split_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "rte/train.jsonl", json_lines(ROWS))
    write(tmp_path, "rte/train.csv", "sentence1,sentence2,label\na,b,0\n")
    with pytest.raises(DataError, match=r"'train' is there 2 times.*train.jsonl, .*train.csv; move"):
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


def test_unlabelled_rows_are_left_out_where_the_task_has_some(tmp_path: Path) -> None:
    rows = [{"premise": "a", "hypothesis": "b", "label": label} for label in (0, -1, 2, None)]
    assert load(write(tmp_path, "snli/train.jsonl", json_lines(rows)), "snli").targets == ["0", "2"]


def test_minus_one_may_be_a_label(tmp_path: Path) -> None:
    task = Task("mood", "{text}", "label", ("accuracy",), ("-1", "0", "1"))
    rows = [{"text": "a", "label": label} for label in (-1, 0, 1)]
    assert load(write(tmp_path, "mood/train.jsonl", json_lines(rows)), task).targets == ["-1", "0", "1"]


def test_braces_are_text(tmp_path: Path) -> None:
    task = Task("odd", "{{x}} {text} }}", "label", ("accuracy",), ("0",), prefix="{p}")
    rows = load_rows_of(write(tmp_path, "odd/train.jsonl", '{"text": "{text}", "label": 0}'), task)
    assert make_examples(task, rows, prefix=True).sources == ["{p} {x} {text} }"]


def load_rows_of(folder: str, task: Task):
    return load_rows(task, "train", source="folder", data_dir=folder)


@pytest.mark.parametrize("name", ["rte", "iwslt2017-en-nl"])
def test_the_hub_is_asked_for_the_right_thing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import datasets

    asked = {}

    def load_dataset(path, name=None, *, split, data_files=None):
        asked.update(path=path, name=name, split=split, data_files=data_files)
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub_access, "why_offline", lambda: "")
    with pytest.raises(DataError) as error:
        load_rows(TASKS[name], "train", source="hub")
    for part in (name, "Couldn't reach the hub", "data_dir"):
        assert part in str(error.value)
    if name == "rte":
        assert asked == {"path": "nyu-mll/glue", "name": "rte", "split": "train", "data_files": None}
    else:
        files = "hf://datasets/IWSLT/iwslt2017@refs/convert/parquet/iwslt2017-en-nl/train/*.parquet"
        assert asked == {"path": "parquet", "name": None, "split": "train", "data_files": {"train": files}}


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    rows = datasets.Dataset.from_list([*ROWS, {"sentence1": "e", "sentence2": "f", "label": -1}])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    with pytest.raises(
        DataError, match=r"nyu-mll/glue, configuration rte, split 'train', row 2 \(from 0\): col"
    ):
        make_examples(TASKS["rte"], load_rows(TASKS["rte"], "train", source="hub"), prefix=False)


def test_the_real_library_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match="could not be loaded"):
        load_rows(TASKS["cola"], "train", source="hub")
