"""Where rows come from: the Hugging Face hub, a local folder, or our own generator."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperformer.data import toy
from hyperformer.data.tasks.task import Alias, Task
from hyperformer.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    from datasets import Dataset

SOURCES = ("hub", "folder", "toy")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def load_rows(task: Task, split: str, *, source: str, data_dir: str | None = None) -> Dataset:
    """All rows of one split, as the source has them, checked.

    Args:
        split: the source's own name of the split ('validation_matched').
        source: 'hub', 'folder' or 'toy'.
        data_dir: for 'folder': holds `<task>/<split>.jsonl` (.json, .csv, .tsv, .parquet).

    Raises:
        ConfigError: the task is not to be had from this source.
        DataError: nothing there, or rows that lack a column, a label or a text.
    """
    if source not in SOURCES:
        raise ConfigError(f"data_source is {source!r}{nearest(source, SOURCES)}")
    is_toy = task.name in toy.GENERATORS
    if is_toy != (source == "toy"):
        wanted = "data_source=toy" if is_toy else "data_source=hub, or data_source=folder with data_dir"
        raise ConfigError(
            f"Task {task.name!r} cannot be read with data_source={source}; write {wanted}. "
            f"The toy tasks are: {', '.join(toy.GENERATORS)}; a run takes tasks of one source."
        )
    if source == "hub":
        rows, where = _from_hub(task, split)
    elif source == "folder":
        rows, where = _from_folder(task, split, data_dir)
    else:
        from datasets import Dataset

        rows, where = Dataset.from_list(toy.toy_rows(task.name, split)), "the toy generator"
    check_rows(rows, task, f"task {task.name!r}, split {split!r} ({where})")
    return rows


def _from_hub(task: Task, split: str) -> tuple[Dataset, str]:
    if task.hub is None:
        raise ConfigError(
            f"Task {task.name!r} has no place on the hub; give it one, or use data_source=folder"
        )
    import datasets

    hub = task.hub
    where = f"data set {hub.path}{f', configuration {hub.name}' if hub.name else ''}"
    if hub.parquet_copy:
        files = f"hf://datasets/{hub.path}@refs/convert/parquet/{hub.name or 'default'}/{split}/*.parquet"
        arguments: dict[str, Any] = {"path": "parquet", "data_files": {split: files}}
        where += ", its parquet copy on the branch refs/convert/parquet"
    else:
        arguments = {"path": hub.path, "name": hub.name}
    try:
        return datasets.load_dataset(**arguments, split=split), where
    except Exception as error:  # the library raises its own, the hub's, the network's, ValueError, ...
        raise DataError(
            f"Task {task.name!r}: {where}, split {split!r}, could not be loaded: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}\n"
            "On a machine without network: load it once where there is one, with the same HF_HOME, then set "
            "HF_HUB_OFFLINE=1; or put the rows into a folder and write data_source=folder "
            f"data_dir=FOLDER (FOLDER/{task.name}/{split}.jsonl)"
        ) from error


def _from_folder(task: Task, split: str, data_dir: str | None) -> tuple[Dataset, str]:
    import datasets

    if not data_dir:
        raise ConfigError("data_source=folder needs data_dir, the folder that holds <task>/<split>.jsonl")
    path = _find_file(task, Path(data_dir).expanduser() / task.name, split)
    rows = read_file(path)
    if task.rounded and task.target in rows.column_names and rows.features[task.target].dtype == "float64":
        # As the hub stores scores; it decides how a few of them are rounded.
        table = rows.data.table
        scores = table.column(task.target).cast("float32")
        rows = datasets.Dataset(table.set_column(rows.column_names.index(task.target), task.target, scores))
    return rows, str(path)


def _find_file(task: Task, folder: Path, split: str) -> Path:
    for suffix in SUFFIXES:
        if (folder / f"{split}{suffix}").is_file():
            return folder / f"{split}{suffix}"
    there = f"there is no folder {folder.parent}"
    for place in (folder.parent, folder):
        if place.is_dir():
            names = sorted(path.name for path in place.iterdir())
            there = f"in {place} there are: {', '.join(names) or 'no files'}"
    raise DataError(f"Task {task.name!r}: no {folder / split}.jsonl (nor {', '.join(SUFFIXES[1:])}); {there}")


def read_file(path: Path) -> Dataset:
    """The rows of a JSON lines, JSON (a list of objects), CSV, TSV or parquet file.

    Raises:
        DataError: it cannot be read; file and line are named.
    """
    from datasets import Dataset

    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            return Dataset(pyarrow.parquet.read_table(path))
        if path.suffix in (".csv", ".tsv"):
            with path.open(encoding="utf-8", newline="") as lines:
                rows = list(csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ","))
        elif path.suffix == ".json":
            rows = json.loads(path.read_text(encoding="utf-8"))
        else:
            rows = _json_lines(path)
        if not isinstance(rows, list) or any(not isinstance(row, dict) for row in rows):
            raise DataError(f'{path}: expected objects, one a row: {{"sentence": ..., "label": ...}}')
        return Dataset.from_list(rows)
    except (OSError, ValueError, TypeError, csv.Error) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{path}: cannot be read: {error}") from error


def _json_lines(path: Path) -> list[Any]:
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise DataError(f"{path}, line {number}: not JSON: {error}") from error
    return rows


def check_rows(rows: Dataset, task: Task, where: str) -> None:
    """See that `rows` are what `task` needs: some, with its columns, texts and labels.

    Raises:
        DataError: naming `where`, the row (the first is 0) and the column.
    """
    if not len(rows):
        raise DataError(f"{where}: no rows; put rows there, or leave the task out")
    columns = task.columns_in(rows.column_names)
    missing = [column for column, found in columns.items() if found is None]
    if missing:
        raise DataError(
            f"{where}: no column {', '.join(map(repr, missing))}; the task reads "
            f"{', '.join(columns)}, and there are: {', '.join(rows.column_names)}"
        )
    for found in columns.values():
        name = found.other if isinstance(found, Alias) else str(found)
        values = rows.data.column(name)
        if values.null_count:
            row = values.is_null().index(True).as_py()
            raise DataError(
                f"{where}, row {row}, column {name!r}: nothing there ({values.null_count} such rows in all)"
            )
    if task.labels is not None:
        _check_labels(rows, task, columns[task.target.partition("[")[0]], where)


def _check_labels(rows: Dataset, task: Task, found: Alias | str | None, where: str) -> None:
    name = found.other if isinstance(found, Alias) else str(found)
    values = rows.data.column(name)
    for value in values.unique().to_pylist():
        fault = _fault(task, task.value({name: value}, task.target))
        if fault:
            row = values.to_pylist().index(value) if value == value else "?"
            raise DataError(f"{where}, row {row}, column {name!r}: {value!r} {fault}")


def _fault(task: Task, value: Any) -> str:
    """What is wrong with a label; empty if nothing is."""
    labels = task.labels or ()
    if str(value).strip() in ("-1", "-1.0", ""):
        if task.unlabelled_rows:
            return ""
        return "is no label (an unlabelled test set?); train, validation and test all need labels"
    if not task.rounded:
        answer = task.answer_of(value)
        return "" if answer in labels else f"is not a label{nearest(answer, labels)}"
    try:
        inside = float(labels[0]) <= float(value) <= float(labels[-1])  # not so for NaN
    except ValueError:
        inside = False
    return "" if inside else f"is not a number from {labels[0]} to {labels[-1]}"
