"""Whether the right answers of a task can be written with a tokenizer.

A label that the tokenizer does not know (是 in T5's vocabulary), or writes otherwise
(``½`` as ``12``), can never be answered: accuracy would be 0 without any error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hyperformer.data.dataset import TokenizedSplit
from hyperformer.data.metrics import has_words_without_blanks
from hyperformer.data.tasks.task import Task, answer_length
from hyperformer.errors import ConfigError
from hyperformer.settings.schema import DataConfig

_SAMPLE = 1_000
"""Free-text answers of a split that are looked at."""


def decode(tokenizer: Any, ids: Any) -> list[str]:
    """Answers as text. Evaluation compares them without the blanks around them."""
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def possible_answers(task: Task, method: str = "generate") -> list[str]:
    """Every right answer that a task with labels can have; ranking answers with its labels only."""
    labels = list(task.labels or ())
    if not task.rounded or method == "rank":
        return labels
    tenths = np.arange(round(10 * float(labels[0])), round(10 * float(labels[-1])) + 1)
    return [task.answer_of(number / 10) for number in tenths]


def check_labels(task: Task, tokenizer: Any, *, method: str, max_tokens: int | None = None) -> None:
    """See, before training, that a model can learn, write and tell apart every label.

    Args:
        method: 'generate'; or 'constrained' or 'rank', which need not read the labels again from what is written.
        max_tokens: target tokens kept in training, </s> included.

    Raises:
        ConfigError: it cannot; the message names the labels, and how they are written.
    """
    labels = possible_answers(task, method)
    if not labels:
        return
    rows = dict(zip(labels, tokenizer(labels)["input_ids"], strict=True))
    limits = {"max_target_length": max_tokens, "answer_tokens": answer_length(task, tokenizer)}
    for key, limit in limits.items():
        if limit is not None:
            _refuse(
                task,
                [f"{label!r} has {len(ids)}" for label, ids in rows.items() if len(ids) > limit],
                f"{key} is {limit}, and these labels have more tokens (the end token included)",
                f"write a larger {key}",
            )
    remedy = (
        f"choose others that the tokenizer of {tokenizer.name_or_path} knows, such as words of its language; "
        "label_map in a task file maps the values of the column to them"
    )
    groups: dict[tuple[int, ...], list[str]] = {}
    for label, ids in rows.items():
        groups.setdefault(tuple(ids), []).append(label)
    same = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    _refuse(task, same, "these labels are the same tokens", remedy)
    if method == "generate":
        written = zip(labels, decode(tokenizer, list(rows.values())), strict=True)
        other = [f"{label!r} becomes {text!r}" for label, text in written if text.strip() != label]
        _refuse(task, other, "the tokenizer cannot write these labels", remedy)


def _refuse(task: Task, cases: Sequence[str], why: str, remedy: str) -> None:
    if cases:
        more = f" and {len(cases) - 5:,} more" if len(cases) > 5 else ""
        raise ConfigError(f"task {task.name!r}: {why}: {', '.join(cases[:5])}{more}; {remedy}")


def notes(
    task: Task, splits: Mapping[str, TokenizedSplit], tokenizer: Any, settings: DataConfig
) -> Iterator[str]:
    """What a user should know of the rows of a task: texts that are cut, or that cannot be written.

    Args:
        splits: split -> its rows.
    """
    for what, limit in (("source", settings.max_source_length), ("target", settings.max_target_length)):
        cut = {split: getattr(rows, f"truncated_{what}s") for split, rows in splits.items()}
        if any(cut.values()):
            counts = (
                f"{count:,} of {len(splits[split]):,} in {split}" for split, count in cut.items() if count
            )
            yield f"{what}s cut at max_{what}_length={limit} tokens: {', '.join(counts)}"
    if task.labels is None:
        for split, rows in splits.items():
            yield from (f"{split}: {note}" for note in _free_text_notes(task, rows, tokenizer))


def _free_text_notes(task: Task, rows: TokenizedSplit, tokenizer: Any) -> Iterator[str]:
    longer = int((rows.target_ids.lengths() > answer_length(task, tokenizer)).sum())
    if longer:
        yield f"{longer:,} of {len(rows):,} targets are longer than answer_tokens={task.answer_tokens}"
    sample = rows.target_texts[:: -(-len(rows) // _SAMPLE)]
    # Most metrics do not care how many blanks there are between words.
    read = str.strip if "accuracy" in task.metrics else str.split
    written = decode(tokenizer, tokenizer(sample)["input_ids"])
    changed = [(a, b) for a, b in zip(sample, written, strict=True) if read(a) != read(b)]
    if changed:
        text, becomes = changed[0]
        yield (
            f"the tokenizer cannot write {len(changed):,} of {len(sample):,} targets as they are, so no answer "
            f"can equal them: {text[:80]!r} becomes {becomes[:80]!r}"
        )
    if "bleu" in task.metrics and any(map(has_words_without_blanks, sample)):
        yield "BLEU (sacrebleu's 13a) takes text without blanks, such as Chinese, for one word: rouge knows it"
