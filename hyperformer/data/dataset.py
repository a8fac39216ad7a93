"""Rows as token ids: tokenised once, kept on disk, read through memory maps.

A cache file is one int32 array: a checksum, the number of rows, two counts of
truncated texts, the length of every source and of every target, then all ids.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import transformers

from hyperformer.data.examples import Examples, checksum_of_targets
from hyperformer.data.question_metrics import Reference
from hyperformer.data.tasks.task import Task
from hyperformer.files import atomic_write
from hyperformer.settings.schema import DataConfig

CACHE = Path.home() / ".cache" / "hyperformer"
"""Where tokenised rows are kept unless told otherwise."""
VERSION = 1
"""Raise it when the file's layout or the way of tokenising changes."""
CHUNK = 10_000
"""Texts tokenised at a time."""


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
        fingerprint: number of rows, and a checksum of their tokens and answers.
        row_hashes: of :meth:`Examples.row_hashes`; empty for rows that are only trained on.
        references: as in :class:`Examples`.
    """

    source_ids: Ragged
    target_ids: Ragged
    target_texts: list[str]
    truncated_sources: int
    truncated_targets: int
    fingerprint: str
    row_hashes: Sequence[str] = ()
    references: Sequence[Reference] = ()

    def __len__(self) -> int:
        return len(self.source_ids)

    def subset(self, indices: Sequence[int] | np.ndarray) -> TokenizedSplit:
        """Some of the rows, as a split of its own; its fingerprint is still that of all."""
        sources, targets = self.sources(indices), self.targets(indices)
        return replace(
            self,
            source_ids=Ragged(np.concatenate(sources), np.asarray([len(row) for row in sources])),
            target_ids=Ragged(np.concatenate(targets), np.asarray([len(row) for row in targets])),
            target_texts=[self.target_texts[int(index)] for index in indices],
            row_hashes=[self.row_hashes[int(index)] for index in indices] if self.row_hashes else (),
            references=[self.references[int(index)] for index in indices] if self.references else (),
        )

    def sources(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Token ids of the sources of some rows, </s> at the end: one int32 array each."""
        return self.source_ids.take(indices)

    def targets(self, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
        """Token ids of the targets of some rows, </s> at the end: one int32 array each."""
        return self.target_ids.take(indices)


def tokenize_split(examples: Examples, task: Task, tokenizer: Any, settings: DataConfig) -> TokenizedSplit:
    """Tokenise the examples of a task, or read what an earlier call kept.

    Args:
        examples: from :func:`hyperformer.data.splits.load_split`.
        tokenizer: a T5 tokenizer.
        settings: how many tokens are kept (</s> included), and where the result is kept.
    """
    limits = (settings.max_source_length, settings.max_target_length)
    sources, targets = list(examples.sources), list(examples.targets)
    # All that decides the ids is in the key: another file, template or tokenizer, another name.
    key = hashlib.sha256(json.dumps([VERSION, _identity(tokenizer), limits, sources, targets]).encode())
    folder = Path(settings.cache_dir or CACHE).expanduser() / "tokenized"
    path = folder / f"{task.name}-{key.hexdigest()[:32]}.npy"
    array = _read(path, len(examples))
    if array is None:
        array = _pack(_tokenize(tokenizer, sources, limits[0]), _tokenize(tokenizer, targets, limits[1]))
        _write(path, array)
    count, body = len(examples), array[4:]
    source_lengths, target_lengths, ids = body[:count], body[count : 2 * count], body[2 * count :]
    boundary = int(source_lengths.sum(dtype=np.int64))
    return TokenizedSplit(
        Ragged(ids[:boundary], source_lengths),
        Ragged(ids[boundary:], target_lengths),
        targets,
        truncated_sources=int(array[2]),
        truncated_targets=int(array[3]),
        fingerprint=f"{count} rows, {array[:1].view(np.uint32)[0]:08x}"
        + checksum_of_targets(targets, examples.references),
        references=examples.references,
    )


def _identity(tokenizer: Any) -> str:
    """Hash of what decides how texts are cut: libraries, vocabulary, scores, normalisation, added tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python, as ByT5's is
        state: Any = [type(tokenizer).__qualname__, tokenizer.get_vocab(), str(tokenizer.init_kwargs)]
    else:
        state = json.loads(backend.to_str())
        # These two change with every call.
        state.pop("truncation", None)
        state.pop("padding", None)
    versions = [tokenizers.__version__, transformers.__version__]
    return hashlib.sha256(json.dumps([versions, state], sort_keys=True).encode()).hexdigest()


def _tokenize(tokenizer: Any, texts: list[str], limit: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(ids, lengths, how many texts were cut to `limit` tokens)."""
    pieces, lengths, truncated = [], [], 0
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        batch = tokenizer(chunk, return_attention_mask=False, verbose=False)["input_ids"]
        for row in np.flatnonzero(np.fromiter(map(len, batch), int) > limit):
            batch[row] = truncate(batch[row], limit)
            truncated += 1
        lengths.append(np.fromiter(map(len, batch), np.int32))
        pieces.append(np.fromiter(chain.from_iterable(batch), np.int32))
    return np.concatenate(pieces), np.concatenate(lengths), truncated


def truncate(ids: list[int], limit: int) -> list[int]:
    """The first ids of a text that is longer than `limit` tokens; </s> stays at the end."""
    return ids[: limit - 1] + ids[-1:]


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
