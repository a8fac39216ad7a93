"""What the files and folders that a config names hold: hashes, which belong to a run's signature."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import Any

from hyperformer.adapter_folder import trained_files
from hyperformer.data.cache.file_hash import file_hash
from hyperformer.data.sources import find_file
from hyperformer.data.splits import source_splits
from hyperformer.data.tasks import Task, get_task, load_user_tasks
from hyperformer.errors import ConfigError, DataError
from hyperformer.files import read_json
from hyperformer.settings.build import flatten, make_config
from hyperformer.settings.deepspeed_json.read import read_user_json
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.signature import describe_content, settings_hash, with_contents

# What transformers loads from a folder; a training's own files beside them (optimizer.bin) do not count.
_TOKENIZER_FILES = (
    "config.json", "tokenizer*.json", "tokenizer.model", "spiece.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.*",
)  # fmt: skip
_MODEL_FILES = ("generation_config.json",)
# The first kind that is there is loaded.
_WEIGHT_FILES = (
    ("model*.safetensors", "model.safetensors.index*.json"),
    ("pytorch_model*.bin", "pytorch_model.bin.index*.json"),
)
GLOBAL_BATCH = "global_batch_size"
OWN_FILE = "file/"
"""Start of the key of a task's own file."""


class Contents:
    """Reads the hashes of configs; each file, and each set of settings that name the same, once."""

    def __init__(self) -> None:
        self._tasks: dict[str | None, dict[str, Task]] = {}
        self._found: dict[tuple[Any, ...], dict[str, str]] = {}
        self._missing: dict[tuple[Any, ...], list[str]] = {}

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

        A setting is left out if it names no file or folder that is on this machine. Rows have a
        key per file (``data_dir/rte/train``), so that each is compared on its own.

        Raises:
            ConfigError: a file is there and is not what it should be, or cannot be read.
        """
        key = _key(config)
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
        if data.data_source == "hub" and data.task_file:
            for task in tasks:
                if task.hub and not task.file and os.path.isdir(task.hub.path):
                    with _errors_of("task_file", data.task_file):
                        yield f"hub/{task.name}", _hash(_tree(Path(task.hub.path)))
        for name, _, path in _rows(config, tasks):
            if path:
                with _errors_of("task_file" if name.startswith(OWN_FILE) else "data_dir", path):
                    yield name, _hash([path.name, file_hash(path)])
        if config.training.deepspeed_config and os.path.exists(config.training.deepspeed_config):
            added = read_user_json(config.training).result
            yield "deepspeed_config", _hash(added) if added else ""
        if os.path.isabs(model.model_name_or_path) and os.path.isdir(model.model_name_or_path):
            with _errors_of("model_name_or_path", model.model_name_or_path):
                found = _model(Path(model.model_name_or_path), with_weights=not model.random_init)
                yield "model_name_or_path", _hash(found)
        if model.init_from and os.path.isdir(model.init_from):
            with _errors_of("init_from", model.init_from):
                yield "init_from", _hash(_trained(Path(model.init_from)))
        if (
            model.tokenizer_name
            and os.path.isabs(model.tokenizer_name)
            and os.path.isdir(model.tokenizer_name)
        ):
            with _errors_of("tokenizer_name", model.tokenizer_name):
                yield "tokenizer_name", _hash(_files(Path(model.tokenizer_name), _TOKENIZER_FILES))

    def missing(self, config: RunConfig) -> list[str]:
        """Files of rows, without their suffix, that the run reads and that are not on this machine."""
        key = _key(config)
        if key not in self._missing:  # thousands of runs read the same files
            own = self.user_tasks(config.data.task_file)
            tasks = [get_task(name, own) for name in config.data.tasks]
            self._missing[key] = [wanted for _, wanted, path in _rows(config, tasks) if path is None]
        return self._missing[key]


def _key(config: RunConfig) -> tuple[Any, ...]:
    """The settings that say which files a run reads."""
    # What a DeepSpeed file adds to the settings depends on them.
    training = config.training if config.training.deepspeed_config else None
    return config.model, training, config.splits, config.data


def with_global_batch(config: RunConfig, rows: int) -> RunConfig:
    """With the rows of a step among the contents, if losses are summed: the result depends on them then."""
    if config.training.loss_reduction != "sum":
        return config
    return with_contents(config, {**(config.contents or {}), GLOBAL_BATCH: str(rows)})


def identify(config: RunConfig, record: Mapping[str, Any] | None, ranks: int) -> RunConfig:
    """The config with the contents that belong to its run.

    Args:
        record: what config.json in the folder of a run that has begun holds; None: this one begins.
        ranks: of a run that begins now.

    Raises:
        ConfigError: a file is no longer what it was when the run was planned.
    """
    now, began = Contents().read(config), record or {}
    known_as = config.known_as or _legacy_signature(config, began)
    planned = began.get("contents") if known_as else config.contents
    flat = flatten(config)
    changed = [
        describe_content(key, flat)
        for key, held in (planned or {}).items()
        if key != GLOBAL_BATCH and now.get(key, held) != held
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
    rows = int(was.pop(GLOBAL_BATCH, config.training.rows_per_rank * ranks))
    contents = {key: now.get(key, held) for key, held in was.items()} if record else now
    return with_global_batch(dataclasses.replace(config, contents=contents), rows)


def _legacy_signature(config: RunConfig, record: Mapping[str, Any]) -> str | None:
    """The signature of the run in a folder whose contents were never recorded, if its settings are these."""
    if config.contents is not None or not record or "contents" in record:
        return None
    try:
        theirs = make_config(record["settings"])
    except ConfigError:  # of a later version
        return None
    same = settings_hash(theirs) == settings_hash(config)
    return str(record["signature"]) if same else None


def _definition(task: Task) -> dict[str, Any]:
    """A task as plain values; defaults are left out, as in signatures. Of its own file the content counts."""
    values = dataclasses.asdict(dataclasses.replace(task, file=None))
    defaults = dataclasses.asdict(Task(task.name, "", "", ()))
    return {key: value for key, value in values.items() if value != defaults[key]}


def _rows(config: RunConfig, tasks: Iterable[Task]) -> Iterator[tuple[str, str, Path | None]]:
    """('data_dir/rte/train', the path without suffix, its file); None for one that is not there, or not yet."""
    folder = config.data.data_dir if config.data.data_source == "folder" else None
    for task in tasks:
        if task.file:
            path = Path(task.file)
            yield f"{OWN_FILE}{task.name}", task.file, path if path.is_file() else None
            continue
        for split in sorted(source_splits(task, config)) if folder else ():
            with _errors_of("data_dir", str(folder)):
                found = find_file(task, Path(str(folder)), split)
            yield f"data_dir/{task.name}/{split}", f"{folder}/{task.name}/{split}", found


@contextmanager
def _errors_of(key: str, path: str | Path) -> Iterator[None]:
    """What cannot be read is an error of the setting that names it."""
    try:
        yield
    except DataError as error:
        raise ConfigError(f"{key} {path}: {error}") from error
    except OSError as error:
        where = error.filename or path
        raise ConfigError(f"{key} {where}: cannot be read: {error.strerror or error}") from error


def _model(folder: Path, with_weights: bool) -> dict[str, str]:
    found = _files(folder, _TOKENIZER_FILES + _MODEL_FILES)
    return found | (weight_hashes(folder) if with_weights else {})


def weight_hashes(folder: Path) -> dict[str, str]:
    """Hash of each file of weights that transformers loads from a folder; {} if it has none.

    Raises:
        OSError: one cannot be read.
    """
    return next(filter(None, (_files(folder, kind) for kind in _WEIGHT_FILES)), {})


def _trained(folder: Path) -> dict[str, Any]:
    """What a run that starts from a trained adapter takes from its folder; where its T5 lay does not count."""
    files = trained_files(folder)
    if files is None:
        raise DataError(
            "no trained weights are there: name the folder of a run that is done, or its adapter/ "
            "(a run of several single tasks has a folder for each)"
        )
    try:
        record = read_json(files.config)
    except ValueError as error:
        raise DataError(f"{files.config} is damaged: {error}") from error
    kept = ("base_sizes", "base_fingerprint", "tasks", "adapter_settings")
    told = {key: record.get(key) for key in kept} if isinstance(record, dict) else {}
    return {**told, "weights": file_hash(files.weights)}


def _files(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    return {
        path.name: file_hash(path)
        for path in sorted(folder.iterdir())
        if any(fnmatch(path.name, pattern) for pattern in patterns) and path.is_file()
    }


def _tree(folder: Path) -> dict[str, str]:
    """Every file of a data set's folder, but hidden ones."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = ((path.relative_to(folder), path) for path in paths)
    return {
        str(name): file_hash(path)
        for name, path in named
        if not any(part.startswith(".") for part in name.parts)
    }


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
