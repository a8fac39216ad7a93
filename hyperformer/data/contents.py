"""What the files and folders that a config names hold: hashes, which belong to a run's signature.

A file is read once. Its hash is kept under ``~/.cache/hyperformer/hashes`` with the file's size,
times and inode, and holds as long as these stay.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyperformer.data.sources import find_file
from hyperformer.data.splits import source_splits
from hyperformer.data.tasks import Task, get_task, load_user_tasks
from hyperformer.errors import ConfigError
from hyperformer.files import read_json, write_json
from hyperformer.settings.build import flatten, hash_settings, make_config
from hyperformer.settings.schema import RunConfig

_CACHE = "~/.cache/hyperformer/hashes"
# A file that was written so shortly before it was read may change again within its time stamp.
_SETTLED_S = 2.0
# Smaller files are read as quickly as the note on them.
_WORTH_A_NOTE = 1 << 20
_TOKENIZER_FILES = (".json", ".model", ".txt", ".jinja")
_WEIGHT_FILES = (".safetensors", ".bin")


class Contents:
    """Reads the hashes of configs; each file, and each set of settings that name the same, once."""

    def __init__(self) -> None:
        self._tasks: dict[str | None, dict[str, Task]] = {}
        self._found: dict[tuple[Any, ...], dict[str, str]] = {}

    def user_tasks(self, task_file: str | None) -> dict[str, Task]:
        """The tasks of a task file, by name.

        Raises:
            ConfigError: as :func:`load_user_tasks`.
        """
        if task_file not in self._tasks:
            self._tasks[task_file] = load_user_tasks(task_file) if task_file else {}
        return self._tasks[task_file]

    def read(self, config: RunConfig) -> dict[str, str]:
        """Setting -> hash of what it names and the run reads; '' if that is nothing.

        A setting is left out if it names no file or folder that is on this machine.

        Raises:
            ConfigError, DataError: a file is there and is not what it should be.
        """
        key = (
            config.model,
            config.training.deepspeed_config,
            config.validates,
            config.training.do_test,
            config.data,
        )
        if key not in self._found:
            self._found[key] = dict(self._read(config))
        return self._found[key]

    def _read(self, config: RunConfig) -> Iterator[tuple[str, str]]:
        data, model = config.data, config.model
        own = self.user_tasks(data.task_file)
        tasks = [get_task(name, own) for name in data.tasks]
        if data.task_file:
            chosen = {task.name: _definition(task) for task in tasks if task.name in own}
            yield "task_file", _hash(chosen) if chosen else ""
        if data.data_source == "folder" and data.data_dir:
            rows = dict(_rows(config, tasks, Path(data.data_dir)))
            if "" not in rows.values():
                yield "data_dir", _hash(rows)
        if config.training.deepspeed_config and os.path.exists(config.training.deepspeed_config):
            yield "deepspeed_config", _hash(_json(Path(config.training.deepspeed_config)))
        wanted = _TOKENIZER_FILES if model.random_init else _TOKENIZER_FILES + _WEIGHT_FILES
        if os.path.isabs(model.model_name_or_path) and os.path.isdir(model.model_name_or_path):
            yield "model_name_or_path", _hash(_folder(Path(model.model_name_or_path), wanted))
        if (
            model.tokenizer_name
            and os.path.isabs(model.tokenizer_name)
            and os.path.isdir(model.tokenizer_name)
        ):
            yield "tokenizer_name", _hash(_folder(Path(model.tokenizer_name), _TOKENIZER_FILES))


def with_global_batch(config: RunConfig, rows: int) -> RunConfig:
    """With the rows of a step among the contents, if losses are summed: the result depends on them then."""
    if config.training.loss_reduction != "sum":
        return config
    return dataclasses.replace(config, contents={**(config.contents or {}), "global_batch_size": str(rows)})


def identify(config: RunConfig, record: Mapping[str, Any] | None, ranks: int) -> RunConfig:
    """The config with the contents that belong to its run.

    Args:
        record: what config.json in the folder of a run that has begun holds; None: this one begins.
        ranks: of a run that begins now.

    Raises:
        ConfigError: a file is no longer what it was when the run was planned.
    """
    now, began = Contents().read(config), record or {}
    known_as = config.known_as or _former(config, began)
    planned = began.get("contents") if known_as else config.contents
    flat = flatten(config)
    changed = [
        f"{key} ({flat[key]})"
        for key, held in (planned or {}).items()
        if key in flat and now.get(key, held) != held
    ]
    if changed:
        raise ConfigError(
            f"{', '.join(changed)}: changed since the run was planned. Put back what was there, or submit the sweep "
            "again: with other files it is another run"
        )
    if known_as or config.contents is not None:
        return dataclasses.replace(config, known_as=known_as)
    # A run that has begun keeps its batch, on however many ranks it resumes, and what is hashed of it.
    was: dict[str, str] = dict(began.get("contents") or {})
    rows = int(was.pop("global_batch_size", config.training.rows_per_rank * ranks))
    contents = {key: now.get(key, held) for key, held in was.items()} if record else now
    return with_global_batch(dataclasses.replace(config, contents=contents), rows)


def _former(config: RunConfig, record: Mapping[str, Any]) -> str | None:
    """The signature of the run in a folder whose contents were never recorded, if its settings are these."""
    if config.contents is not None or not record or "contents" in record:
        return None
    try:
        theirs = make_config(record["settings"])
    except ConfigError:  # of a later version
        return None
    same = hash_settings(flatten(theirs)) == hash_settings(flatten(config))
    return str(record["signature"]) if same else None


def _definition(task: Task) -> dict[str, Any]:
    """A task as plain values; defaults are left out, as in signatures."""
    values = dataclasses.asdict(task)
    defaults = dataclasses.asdict(Task(task.name, "", "", ()))
    return {key: value for key, value in values.items() if value != defaults[key]}


def _rows(config: RunConfig, tasks: Iterable[Task], folder: Path) -> Iterator[tuple[str, str]]:
    """'rte/train.csv' -> its hash; '' for a file that is not there, on this machine or not yet."""
    for task in tasks:
        for split in source_splits(task, config):
            path = find_file(task, folder, split)
            yield f"{task.name}/{path.name if path else split}", file_hash(path) if path else ""


def _folder(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    return {
        path.name: file_hash(path)
        for path in sorted(folder.iterdir())
        if path.suffix in suffixes and path.is_file()
    }


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"deepspeed_config {path}: not JSON that can be read: {error}") from error


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Hash of a file's content, read or remembered.

    Raises:
        OSError: it cannot be read.
    """
    state = os.stat(path)
    stamp = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
    note = _note_of(path) if state.st_size >= _WORTH_A_NOTE else None
    if note:
        with suppress(OSError, ValueError):
            known = read_json(note)
            if isinstance(known, dict) and known.get("stamp") == stamp:
                return str(known["hash"])
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()[:32]
    if note and time.time() - max(state.st_mtime, state.st_ctime) > _SETTLED_S:
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_json(note, {"path": str(path), "stamp": stamp, "hash": found})
    return found


def _note_of(path: Path) -> Path | None:
    """Where the hash of a file is kept; None: this user has no home."""
    cache = os.path.expanduser(_CACHE)
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    return Path(cache, f"{name}.json") if os.path.isabs(cache) else None
