"""T5's pre-training objective: spans of a text are left out and asked for (Raffel et al. 2020, section 3.1.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hyperformer.data.toy import Passage

NOISE_DENSITY = 0.15
MEAN_SPAN_LENGTH = 3.0


class Row(NamedTuple):
    """Tokens to corrupt.

    Attributes:
        tokens: int32, shape (length,).
        asked: bool, shape (length,); true: dropped each time, whatever else is.
    """

    tokens: np.ndarray
    asked: np.ndarray


def pack(lines: list[str], tokenizer, length: int) -> list[Row]:
    """Tokenise, join with end-of-sequence tokens and cut into rows of one length."""
    pieces: list[np.ndarray] = []
    for start in range(0, len(lines), 10_000):
        encoded = tokenizer(lines[start : start + 10_000], return_attention_mask=False)
        pieces.extend(np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"])
    stream = np.concatenate(pieces)
    chunks = len(stream) // length
    nothing = np.zeros(length, dtype=bool)
    return [Row(tokens, nothing) for tokens in stream[: chunks * length].reshape(chunks, length)]


def passage_rows(passages: list[Passage], tokenizer, length: int) -> list[Row]:
    """A row for each passage, cut to `length`; its remark is always asked for."""
    texts, remarks = (
        tokenizer(list(part), return_attention_mask=False, add_special_tokens=False)["input_ids"]
        for part in zip(*passages, strict=True)
    )
    rows = []
    for text, remark in zip(texts, remarks, strict=True):
        tokens = np.asarray([*text, *remark], dtype=np.int32)
        rows.append(Row(tokens[:length], (np.arange(len(tokens)) >= len(text))[:length]))
    return rows


def noise_mask(length: int, rng: np.random.Generator) -> np.ndarray:
    """Which tokens are dropped: bool array, shape (length,); starts with a kept span."""
    noise = min(max(round(length * NOISE_DENSITY), 1), length - 1)
    spans = max(round(noise / MEAN_SPAN_LENGTH), 1)

    def composition(total: int) -> np.ndarray:
        """`spans` random positive lengths that add up to `total`."""
        cuts = np.sort(rng.choice(total - 1, spans - 1, replace=False)) + 1
        return np.diff(np.concatenate([[0], cuts, [total]]))

    kept, dropped = composition(length - noise), composition(noise)
    lengths = np.stack([kept, dropped], axis=1).reshape(-1)
    return np.repeat(np.tile([False, True], spans), lengths)


def sentinel_form(tokens: np.ndarray, mask: np.ndarray, sentinels: np.ndarray, eos: int) -> np.ndarray:
    """`tokens` with each masked span replaced by its own sentinel, ended by `eos`."""
    starts = mask & ~np.concatenate([[False], mask[:-1]])
    out = np.where(starts, sentinels[np.cumsum(starts) - 1], tokens)
    return np.append(out[starts | ~mask], eos)


def batches(
    rows: list[Row], batch_size: int, tokenizer, rng: np.random.Generator
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches: input_ids, attention_mask and labels, int64, each of shape (batch, its longest row)."""
    sentinels = np.array(tokenizer.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(100)]))
    while True:
        order = rng.permutation(len(rows))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            inputs, labels = [], []
            for tokens, asked in (rows[index] for index in order[start : start + batch_size]):
                mask = noise_mask(len(tokens), rng) | asked
                inputs.append(sentinel_form(tokens, mask, sentinels, tokenizer.eos_token_id))
                labels.append(sentinel_form(tokens, ~mask, sentinels, tokenizer.eos_token_id))
            ids = _padded(inputs, tokenizer.pad_token_id)
            yield {
                "input_ids": ids,
                "attention_mask": (ids != tokenizer.pad_token_id).astype(np.int64),
                "labels": _padded(labels, -100),
            }


def _padded(rows: list[np.ndarray], value: int) -> np.ndarray:
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row)), constant_values=value) for row in rows])
