"""Where rows come from: the Hugging Face hub, a local folder, or the toy generator."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.data import toy
from hyperformer.data.cache.file_hash import file_hash
from hyperformer.data.readers.files import SUFFIXES, read_file
from hyperformer.data.readers.rows import Rows, record_rows, table_rows
from hyperformer.data.tasks.task import Task
from hyperformer.errors import ConfigError, DataError, nearest
from hyperformer.hub_access import not_in_cache, why_offline

SOURCES = ("hub", "folder", "toy")


@dataclass(frozen=True)
class Source:
    """All rows of one split, as the source has them, before they are read.

    Attributes:
        identity: tells the content: what has the same identity has the same rows. DataError: it cannot be read.
        read: the rows. DataError: they cannot be read or understood.
    """

    identity: Callable[[], str]
    read: Callable[[], Rows]


def find_source(task: Task, split: str, *, source: str, data_dir: str | None = None) -> Source:
    """Where the rows of one split are.

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
        return _file(Path(task.file))
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
    return Source(
        lambda: where,  # the generator is code
        lambda: record_rows(
            toy.toy_rows(task.name, split), where, lambda row: f"{where}, row {row} (from 0)"
        ),
    )


def load_rows(task: Task, split: str, *, source: str, data_dir: str | None = None) -> Rows:
    """All rows of one split; arguments and errors as of :func:`find_source`."""
    return find_source(task, split, source=source, data_dir=data_dir).read()


def _file(path: Path) -> Source:
    def identity() -> str:
        try:
            return f"{path.name} {file_hash(path)}"  # the name tells the format
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error

    return Source(identity, lambda: read_file(path))


def _from_hub(task: Task, split: str) -> Source:
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
    rows = table_rows(table.column_names, table.num_rows, table.column, where)
    return Source(lambda: _table_hash(table), lambda: rows)


def _table_hash(table: Any) -> str:
    """Hash of an Arrow table, written as an Arrow stream: types and values, wherever they are in its buffers."""
    import pyarrow

    digest = _Digest()
    with pyarrow.ipc.new_stream(pyarrow.PythonFile(digest, "w"), table.schema) as stream:
        stream.write_table(table)
    return digest.hash.hexdigest()


class _Digest:
    """A file that keeps the hash of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.hash.update(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...


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


def _from_folder(task: Task, split: str, data_dir: str | None) -> Source:
    if not data_dir:
        raise ConfigError("data_source=folder needs data_dir, the folder that holds <task>/<split>.jsonl")
    file = find_file(task, Path(data_dir), split)
    if file is not None:
        return _file(file)
    folder = Path(data_dir) / task.name
    there = f"there is no folder {folder.parent}"
    for place in (folder.parent, folder):
        if place.is_dir():
            names = sorted(path.name for path in place.iterdir())
            there = f"in {place} there are: {', '.join(names) or 'no files'}"
    raise DataError(f"Task {task.name!r}: no {folder / split}.jsonl (nor {', '.join(SUFFIXES[1:])}); {there}")
