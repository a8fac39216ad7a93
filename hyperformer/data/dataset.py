"""Rows as token ids: tokenised once, kept on disk, read through memory maps.

A file of the cache has all of a split that training and evaluation need. Its name is a hash of what decides them
(:mod:`hyperformer.data.cache.key`), the content of the file of rows among it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from hyperformer.data.cache.array_file import Arrays, keep_arrays, read_arrays
from hyperformer.data.cache.key import definition, key, settings_of_rows
from hyperformer.data.examples import Examples, checksum_of_targets
from hyperformer.data.question_metrics import Reference
from hyperformer.data.splits import make_split, split_source
from hyperformer.data.tasks.task import Task
from hyperformer.files import expand_home, user_cache
from hyperformer.settings.schema import DataConfig

CACHE = user_cache()
"""Where tokenised rows are kept unless told otherwise."""
CHUNK = 10_000
"""Texts tokenised at a time."""
T = TypeVar("T")
_Kept = tuple[dict[str, Any], Arrays]


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
    target_texts: Sequence[str]
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


class Column(Sequence[T]):
    """Values of rows, kept as bytes and read when asked for."""

    def __init__(self, rows: Ragged, read: Callable[[bytes], T]) -> None:
        self._rows, self._read = rows, read

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> list[T]: ...
    def __getitem__(self, row: int | slice) -> T | list[T]:
        chosen = range(len(self))[row]
        return (
            [self[i] for i in chosen]
            if isinstance(chosen, range)
            else self._read(self._rows[chosen].tobytes())
        )


def load_tokenized(
    task: Task, split: str, tokenizer: Any, settings: DataConfig, *, prefix: bool
) -> TokenizedSplit:
    """One split of a task as token ids: tokenised, or as an earlier call kept it. Then no row is read.

    Args:
        split: 'train', 'validation' or 'test'; of train there are no `row_hashes`.
        tokenizer: a T5 tokenizer.
        settings: which rows, how many of their tokens (</s> included), and where the result is kept.
        prefix: start every source with the task's prefix.

    Raises:
        ConfigError, DataError: as :func:`split_source` and :func:`make_split`.
    """
    source = split_source(task, split, settings)

    def place() -> Path:
        told = definition(task), split, prefix, settings_of_rows(settings, split), source.identity()
        return _place(task, settings, key(tokenizer, *told))

    def make() -> _Kept:
        examples = make_split(source.read(), task, split, settings, prefix=prefix)
        return _make(examples, tokenizer, settings, [] if split == "train" else examples.row_hashes())

    return _kept(place, make)


def tokenize_split(examples: Examples, task: Task, tokenizer: Any, settings: DataConfig) -> TokenizedSplit:
    """Tokenise the examples of a task, or read what an earlier call kept; arguments as of :func:`load_tokenized`."""
    limits = settings.max_source_length, settings.max_target_length
    told = limits, list(examples.sources), list(examples.targets), list(map(asdict, examples.references))
    path = _place(task, settings, key(tokenizer, *told))
    return _kept(lambda: path, lambda: _make(examples, tokenizer, settings, ()))


def _place(task: Task, settings: DataConfig, name: str) -> Path:
    return expand_home(settings.cache_dir or CACHE) / "tokenized" / f"{task.name}-{name}.bin"


def _kept(place: Callable[[], Path], make: Callable[[], _Kept]) -> TokenizedSplit:
    """What is kept at a place, or made and kept there. The place depends on the content of what it is made of."""
    path = place()
    found = read_arrays(path)
    if found is None:
        found = make()
        if place() == path:  # a file that changed while it was read belongs to no name
            found = keep_arrays(path, *found)
    facts, arrays = found

    def rows(name: str) -> Ragged:
        return Ragged(arrays[name], arrays[f"{name}_lengths"])

    return TokenizedSplit(
        rows("sources"),
        rows("targets"),
        Column(rows("texts"), _text),
        row_hashes=Column(rows("hashes"), _text),
        references=Column(rows("references"), _reference),
        **facts,
    )


def _make(examples: Examples, tokenizer: Any, settings: DataConfig, hashes: Sequence[str]) -> _Kept:
    """What is kept of a split: facts, and arrays of ids and of texts as UTF-8, each with the lengths of its rows."""
    sources, source_lengths, cut_sources = _tokenize(tokenizer, examples.sources, settings.max_source_length)
    targets, target_lengths, cut_targets = _tokenize(tokenizer, examples.targets, settings.max_target_length)
    checksum = 0
    counts = np.asarray([len(examples), cut_sources, cut_targets], dtype=np.int32)
    for array in (counts, source_lengths, target_lengths, sources, targets):
        checksum = zlib.crc32(array.data, checksum)
    facts = {
        "truncated_sources": cut_sources,
        "truncated_targets": cut_targets,
        "fingerprint": f"{len(examples)} rows, {checksum:08x}"
        + checksum_of_targets(examples.targets, examples.references),
    }
    references = [json.dumps([one.group, one.accepted]) for one in examples.references]
    arrays = {
        "sources": sources, "sources_lengths": source_lengths,
        "targets": targets, "targets_lengths": target_lengths,
    }  # fmt: skip
    for name, texts in (("texts", examples.targets), ("hashes", hashes), ("references", references)):
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        arrays[name] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{name}_lengths"] = np.fromiter(map(len, encoded), np.int32)
    return facts, arrays


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")


def _reference(value: bytes) -> Reference:
    group, accepted = json.loads(value)
    return Reference(group, tuple(accepted))


def _tokenize(tokenizer: Any, texts: Sequence[str], limit: int) -> tuple[np.ndarray, np.ndarray, int]:
    """(ids, lengths, how many texts were cut to `limit` tokens)."""
    pieces, lengths, truncated = [], [], 0
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        batch = tokenizer(list(chunk), return_attention_mask=False, verbose=False)["input_ids"]
        for row in np.flatnonzero(np.fromiter(map(len, batch), int) > limit):
            batch[row] = truncate(batch[row], limit)
            truncated += 1
        lengths.append(np.fromiter(map(len, batch), np.int32))
        pieces.append(np.fromiter(chain.from_iterable(batch), np.int32))
    return np.concatenate(pieces), np.concatenate(lengths), truncated


def truncate(ids: list[int], limit: int) -> list[int]:
    """The first ids of a text that is longer than `limit` tokens; </s> stays at the end."""
    return ids[: limit - 1] + ids[-1:]
