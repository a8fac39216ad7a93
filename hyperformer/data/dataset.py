"""Rows as token ids: tokenised once, kept on disk, read through memory maps.

A cache file is one int32 array: a checksum, the number of rows, two counts of
truncated texts, the length of every source and of every target, then all ids.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperformer.data.tasks.task import Task
from hyperformer.errors import DataError
from hyperformer.files import atomic_write

if TYPE_CHECKING:
    from datasets import Dataset

CACHE = Path("~/.cache/hyperformer")
"""Where tokenised rows are kept unless told otherwise."""
VERSION = 1
"""Raise it when the file's layout or the way of tokenising changes."""
CHUNK = 10_000
"""Rows formatted and tokenised at a time."""


class Ragged:
    """Rows of different lengths, end to end: `ids` int32, `offsets` int64 of shape (rows + 1,)."""

    def __init__(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        self.ids = ids
        self.offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def lengths(self, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Tokens of some rows, or of all: int64, shape (rows,)."""
        # Not the difference of all offsets: this is asked for every batch.
        return self.offsets[1:][indices] - self.offsets[:-1][indices]

    def take(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """The ids of some rows: one int32 array each."""
        return [self[int(index)] for index in indices]


@dataclass(frozen=True)
class TokenizedSplit:
    """One split of one task as token ids.

    Attributes:
        target_texts: the right answers as text, for metrics.
        truncated_sources: how many sources were longer than the limit, and cut.
        truncated_targets: the same of targets.
    """

    source_ids: Ragged
    target_ids: Ragged
    target_texts: list[str]
    truncated_sources: int
    truncated_targets: int

    def __len__(self) -> int:
        return len(self.source_ids)

    def sources(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Token ids of the sources of some rows, </s> at the end: one int32 array each."""
        return self.source_ids.take(indices)

    def targets(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Token ids of the targets of some rows, </s> at the end: one int32 array each."""
        return self.target_ids.take(indices)


def tokenize_split(
    rows: Dataset,
    task: Task,
    tokenizer: Any,
    *,
    max_source_length: int,
    max_target_length: int,
    prefix: bool,
    cache_dir: str | Path | None = None,
) -> TokenizedSplit:
    """Tokenise the rows of a task, or read what an earlier call kept.

    Args:
        rows: from :func:`hyperformer.data.splits.load_split`.
        tokenizer: a fast T5 tokenizer.
        max_source_length, max_target_length: tokens kept, </s> included.
        prefix: start each source with the task's prefix.
        cache_dir: where tokenised rows are kept; default: ~/.cache/hyperformer.

    Raises:
        DataError: a row lacks a part that the template reads.
    """
    pairs = list(_examples(rows, task, prefix))
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    limits = (max_source_length, max_target_length)
    key = hashlib.sha256(json.dumps([VERSION, _identity(tokenizer), limits, sources, targets]).encode())
    path = Path(cache_dir or CACHE).expanduser() / "tokenized" / f"{task.name}-{key.hexdigest()[:32]}.npy"
    array = _read(path, len(pairs))
    if array is None:
        source = _tokenize(tokenizer, sources, max_source_length)
        array = _pack(source, _tokenize(tokenizer, targets, max_target_length))
        _write(path, array)
    count, body = len(pairs), array[4:]
    source_lengths, target_lengths, ids = body[:count], body[count : 2 * count], body[2 * count :]
    boundary = int(source_lengths.sum(dtype=np.int64))
    return TokenizedSplit(
        Ragged(ids[:boundary], source_lengths),
        Ragged(ids[boundary:], target_lengths),
        targets,
        truncated_sources=int(array[2]),
        truncated_targets=int(array[3]),
    )


def _examples(rows: Dataset, task: Task, prefix: bool) -> Iterator[tuple[str, str]]:
    for start in range(0, len(rows), CHUNK):
        columns = rows[start : start + CHUNK]  # by columns: a row at a time is 20 times slower
        for offset, values in enumerate(zip(*columns.values(), strict=True)):
            try:
                yield task.example(dict(zip(columns, values, strict=True)), prefix=prefix)
            except (KeyError, IndexError, TypeError) as error:
                raise DataError(
                    f"Task {task.name!r}, row {start + offset}: the template {task.template!r} with target "
                    f"{task.target!r} does not fit: {type(error).__name__}: {error}"
                ) from error


def _identity(tokenizer: Any) -> str:
    """What decides how texts are cut: vocabulary, scores, normalisation."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # These two change with every call.
    state.pop("truncation", None)
    state.pop("padding", None)
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _tokenize(tokenizer: Any, texts: list[str], limit: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(ids, lengths, how many texts were cut to `limit` tokens)."""
    pieces, lengths, truncated = [], [], 0
    for start in range(0, len(texts), CHUNK):
        batch = tokenizer(texts[start : start + CHUNK], return_attention_mask=False, verbose=False)[
            "input_ids"
        ]
        for ids in batch:
            if len(ids) > limit:
                ids = ids[: limit - 1] + ids[-1:]  # </s> stays
                truncated += 1
            pieces.append(np.asarray(ids, dtype=np.int32))
            lengths.append(len(ids))
    return np.concatenate(pieces), np.asarray(lengths, dtype=np.int32), truncated


def _pack(
    source: tuple[np.ndarray, np.ndarray, int], target: tuple[np.ndarray, np.ndarray, int]
) -> np.ndarray:
    counts = np.asarray([len(source[1]), source[2], target[2]], dtype=np.int32)
    body = np.concatenate([counts, source[1], target[1], source[0], target[0]])
    return np.concatenate([_checksum(body), body])


def _checksum(body: np.ndarray) -> np.ndarray:
    return np.asarray([zlib.crc32(body.data)], dtype=np.uint32).view(np.int32)


def _read(path: Path, rows: int) -> np.ndarray | None:
    """The array of a cache file, memory-mapped; None if there is none that is whole."""
    try:
        array = np.load(path, mmap_mode="r")
        if array.dtype == np.int32 and array[1] == rows and array[0] == _checksum(array[1:])[0]:
            return array
        fault = "its content is damaged"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, IndexError, EOFError) as error:
        fault = str(error)
    warnings.warn(f"{path}: not usable ({fault}); tokenising again", stacklevel=3)
    return None


def _write(path: Path, array: np.ndarray) -> None:
    """Keep the array; two processes that write at once write the same."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb") as stream:
            np.save(stream, array)
    except OSError as error:
        warnings.warn(f"{path}: tokenised rows are not kept: {error}", stacklevel=3)
