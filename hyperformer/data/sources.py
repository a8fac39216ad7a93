"""Where rows come from: the Hugging Face hub, a local folder, or the toy generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperformer.data import toy
from hyperformer.data.readers.files import SUFFIXES, read_file
from hyperformer.data.readers.rows import Rows, record_rows, table_rows
from hyperformer.data.tasks.task import Task
from hyperformer.errors import ConfigError, DataError, nearest
from hyperformer.hub_access import not_in_cache, why_offline

SOURCES = ("hub", "folder", "toy")


def load_rows(task: Task, split: str, *, source: str, data_dir: str | None = None) -> Rows:
    """All rows of one split, as the source has them.

    Args:
        split: the source's own name of the split ('validation_matched').
        source: 'hub', 'folder' or 'toy'.
        data_dir: for 'folder': holds `<task>/<split>.jsonl` (.json, .csv, .tsv, .parquet).

    Raises:
        ConfigError: this source does not have the task.
        DataError: there is nothing, or it cannot be read.
    """
    if source not in SOURCES:
        raise ConfigError(f"data_source is {source!r}{nearest(source, SOURCES)}")
    if task.file is not None:
        if not Path(task.file).is_file():
            raise DataError(f"Task {task.name!r}: data {task.file}: there is no such file")
        return read_file(Path(task.file))
    is_toy = task.name in toy.GENERATORS
    if is_toy != (source == "toy"):
        wanted = "data_source=toy" if is_toy else "data_source=hub, or data_source=folder with data_dir"
        raise ConfigError(
            f"Task {task.name!r} cannot be read with data_source={source}; write {wanted}. "
            f"The toy tasks are: {', '.join(toy.GENERATORS)}; a run takes tasks of one source."
        )
    if source == "hub":
        return _from_hub(task, split)
    if source == "folder":
        return _from_folder(task, split, data_dir)
    where = f"toy split {split!r}"
    return record_rows(toy.toy_rows(task.name, split), where, lambda row: f"{where}, row {row} (from 0)")


def _from_hub(task: Task, split: str) -> Rows:
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
    where += f", split {split!r}"
    why_offline()
    try:
        table = datasets.load_dataset(**arguments, split=split).data.table
    except Exception as error:  # the library raises its own, the hub's, the network's, ValueError, ...
        raise DataError(
            f"Task {task.name!r}: {where}, could not be loaded: {not_in_cache(error) or _in_words(error)}. Or put "
            f"the rows into a folder and write data_source=folder data_dir=FOLDER (FOLDER/{task.name}/{split}.jsonl)"
        ) from error
    return table_rows(table.column_names, table.num_rows, table.column, where)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def find_file(task: Task, data_dir: Path, split: str) -> Path | None:
    """The file with the rows of a split of the source; None: there is none.

    Raises:
        DataError: there are several.
    """
    folder = data_dir / task.name
    files = [folder / f"{split}{suffix}" for suffix in SUFFIXES if (folder / f"{split}{suffix}").is_file()]
    if len(files) > 1:
        raise DataError(
            f"Task {task.name!r}: split {split!r} is there {len(files)} times, and only one can be meant: "
            f"{', '.join(map(str, files))}; move the others away"
        )
    return files[0] if files else None


def _from_folder(task: Task, split: str, data_dir: str | None) -> Rows:
    if not data_dir:
        raise ConfigError("data_source=folder needs data_dir, the folder that holds <task>/<split>.jsonl")
    file = find_file(task, Path(data_dir), split)
    if file is not None:
        return read_file(file)
    folder = Path(data_dir) / task.name
    there = f"there is no folder {folder.parent}"
    for place in (folder.parent, folder):
        if place.is_dir():
            names = sorted(path.name for path in place.iterdir())
            there = f"in {place} there are: {', '.join(names) or 'no files'}"
    raise DataError(f"Task {task.name!r}: no {folder / split}.jsonl (nor {', '.join(SUFFIXES[1:])}); {there}")
