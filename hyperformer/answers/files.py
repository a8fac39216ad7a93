"""The files of a run's ``answers/``: written atomically, checked by checksum when they are read. Imports no torch.

``<split>-<task>.jsonl`` (``.jsonl.gz`` from 64 KiB on) has one JSON object per row, in the rows' order::

    {"row": 0, "hash": "5d1f...", "target": "1", "generated": "1", "answer": 1}

`answer` is what was scored. With ``decode=rank``, `generated` is null, and ``"label_logprobs": {"0": -1.9, "1": -0.2}``
follows. Where metrics read more than the target, ``"group": "4-11"`` (the row's question) and ``"accepted": ["7.5"]``
(its right answers) follow. result.json lists the files, under ``answers`` -> split -> task, as :func:`write_answers`
returns them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hyperformer.answers.answers import Answers, as_json, read_scored
from hyperformer.data.metrics import METRICS, READERS
from hyperformer.data.question_metrics import Reference
from hyperformer.data.tasks.task import Task
from hyperformer.errors import CheckpointError, FileError, nearest
from hyperformer.files import atomic_write, sweep_leftovers
from hyperformer.run_files.checkpoint_folder import checksum
from hyperformer.run_files.run_folder import RunFolder

LARGE = 1 << 16
"""Bytes from which a file is compressed."""
_COLUMNS = ("row", "hash", "target", "generated", "answer")
_AGAIN = "move result.json away and start the same command again: the run evaluates again"


def write_answers(folder: Path, answers: Answers) -> dict[str, Any]:
    """Write the file of one evaluation; it replaces that of an earlier evaluation of this split and task.

    Args:
        folder: is created if needed.

    Returns:
        What result.json lists: file, bytes and checksum as a checkpoint's manifest has them, rows, and what
        scoring needs to know of the task.

    Raises:
        OSError: it could not be written.
        CheckpointError: what was read back is not what was written.
    """
    content, suffix = _content(answers), ".jsonl"
    if len(content) >= LARGE:
        content, suffix = gzip.compress(content, 6, mtime=0), ".jsonl.gz"
    name = f"{answers.split}-{answers.task.name}"
    folder.mkdir(exist_ok=True)
    sweep_leftovers(folder)
    path = folder / f"{name}{suffix}"
    digest = _write_checked(path, content)
    (folder / f"{name}{'.jsonl' if suffix != '.jsonl' else '.jsonl.gz'}").unlink(missing_ok=True)
    task = answers.task
    return {
        "file": path.name,
        "bytes": len(content),
        "checksum": digest,
        "rows": len(answers),
        "metrics": list(task.metrics),
        "answer": task.answer,
        "labels": None if task.labels is None else list(task.labels),
        "rounded": task.rounded,
    }


def write_answer_file(path: Path, answers: Answers) -> None:
    """Write answers to a file of the user's, compressed if its name ends with ``.gz``; raises as above."""
    content = _content(answers)
    _write_checked(path, gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def _write_checked(path: Path, content: bytes) -> str:
    """Write a file atomically and read it back; returns its checksum."""
    with atomic_write(path, "wb") as stream:
        stream.write(content)
    digest = _checksum(content)
    if checksum(path) != digest:
        raise CheckpointError(f"{path} does not read back as it was written: the disk is failing")
    return digest


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _content(answers: Answers) -> bytes:
    lines = []
    for row, values in enumerate(
        zip(answers.hashes, answers.targets, answers.generated, map(as_json, answers.scored), strict=True)
    ):
        record: dict[str, Any] = dict(zip(_COLUMNS, (row, *values), strict=True))
        if answers.label_logprobs is not None:
            record["label_logprobs"] = dict(answers.label_logprobs[row])
        record |= asdict(answers.references[row]) if answers.references else {}
        lines.append(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
    return "".join(lines).encode()


def read_answers(folder: str | Path, split: str, task: str) -> Answers:
    """The answers that a run kept, checked: complete, and bit-identical to what was written.

    Args:
        folder: of a run that is done.
        split: 'validation' (with the weights that were kept) or 'test'.

    Raises:
        FileError: the run is not done or kept no answers, or a file is missing or damaged; the message says which.
    """
    run = RunFolder(folder)
    entries = listed(run, read_result(run)).get(split, {})
    if task not in entries:
        raise FileError(f"{run.result} lists no answers of {split} {task}{nearest(task, entries)}")
    return read_listed(run.answers, split, task, entries[task])


def read_result(run: RunFolder) -> dict[str, Any]:
    """result.json of a run that is done.

    Raises:
        FileError: there is none, or it is damaged.
    """
    result = run.read_result()
    if result is None:
        raise FileError(f"{run.path} is not the folder of a run that is done: it has no {run.result.name}")
    for split in ("validation", "test"):
        if not _is_nested(result.get(split)):
            raise FileError(f"{run.result} is damaged: {split!r} does not give metrics for each task")
    return result


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(inner, dict) for inner in value.values())


def listed(run: RunFolder, result: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The files of answers that a result.json lists: split -> task -> what :func:`write_answers` returned.

    Raises:
        FileError: the run kept none, since it is of an earlier version.
    """
    files = result.get("answers")
    if files is None:
        raise FileError(f"{run.result} lists no answers: the run is of an earlier version, which kept none")
    if not _is_nested(files):
        raise FileError(f"{run.result} is damaged: its list of answers is not a mapping")
    return files


def read_listed(folder: Path, split: str, task: str, entry: Mapping[str, Any]) -> Answers:
    """The answers in a file that result.json lists; raises as :func:`read_answers` does."""
    made, path = _task(folder, task, entry), folder / str(entry["file"])
    content = _checked_content(path, entry)
    try:
        data = gzip.decompress(content) if path.suffix == ".gz" else content
        rows = [json.loads(line) for line in data.decode().split("\n")[:-1]]
        return _answers(made, split, rows, entry["rows"])
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path} holds no answers of {entry['rows']} rows: {error}; {_AGAIN}") from error


def is_intact(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a listed file is there as it was written."""
    try:
        _checked_content(folder / str(entry["file"]), entry)
    except FileError:
        return False
    return True


def _checked_content(path: Path, entry: Mapping[str, Any]) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileError(f"{path} is missing; {_AGAIN}") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) != entry["bytes"]:
        raise FileError(f"{path} has {len(content):,} bytes of {entry['bytes']:,}; {_AGAIN}")
    if _checksum(content) != entry["checksum"]:
        raise FileError(f"{path} is not as it was written (its checksum differs); {_AGAIN}")
    return content


def _task(folder: Path, name: str, entry: Mapping[str, Any]) -> Task:
    """What scoring needs to know of the task."""
    try:
        labels = None if entry["labels"] is None else tuple(map(str, entry["labels"]))
        metrics, kind = tuple(entry["metrics"]), entry["answer"]
        known = set(metrics) <= METRICS.keys() and kind in READERS
        is_here = Path(entry["file"]).name == entry["file"] and type(entry["bytes"]) is int
        if not (known and is_here and type(entry["rows"]) is int and isinstance(entry["checksum"], str)):
            raise ValueError("an unknown metric, kind of answer or file")
        return Task(name, "", "", metrics, labels, rounded=bool(entry["rounded"]), answer=kind)
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{folder.parent / 'result.json'}: what it lists of the answers of {name} is damaged, or of a later "
            f"version: {type(error).__name__}: {error}"
        ) from error


def _answers(task: Task, split: str, rows: list[dict[str, Any]], count: int) -> Answers:
    if [row["row"] for row in rows] != list(range(count)):
        raise ValueError(f"it has {len(rows)} rows, or they are not in order")
    columns = [[row[name] for row in rows] for name in _COLUMNS[1:]]
    hashes, targets, generated, answers = columns
    ranked = ["label_logprobs" in row for row in rows]
    if any(ranked) and not all(ranked):
        raise ValueError("some of its rows have label_logprobs, and some have none")
    logprobs = [row["label_logprobs"] for row in rows] if any(ranked) else None
    scored = [read_scored(task, str(answer)) for answer in answers]
    references = list(map(_reference, rows)) if any("group" in row for row in rows) else ()
    if not references and any(METRICS[name].needs for name in task.metrics):
        raise ValueError(f"its rows lack what {', '.join(task.metrics)} reads beside the targets")
    return Answers(task, split, hashes, targets, generated, scored, logprobs, references)


def _reference(row: dict[str, Any]) -> Reference:
    group, accepted = row["group"], row["accepted"]
    if not isinstance(group, str) or not all(isinstance(answer, str) for answer in accepted):
        raise TypeError("group or accepted is no text")
    return Reference(group, tuple(accepted))
