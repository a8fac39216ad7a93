"""Rows of a data set as source and target texts of a task, a column at a time."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from string import Formatter
from typing import TYPE_CHECKING

from hyperformer.data.metrics import METRICS, can_be_right
from hyperformer.data.question_metrics import Reference
from hyperformer.data.readers.rows import Rows, lists, texts
from hyperformer.data.tasks.recipes import RECIPES, apply
from hyperformer.data.tasks.task import Alias, Task, fields_of
from hyperformer.errors import DataError, nearest

if TYPE_CHECKING:
    import numpy as np

_UNLABELLED = ("", "-1", "-1.0")
"""What is in the target column of a row without label, unless it is a label."""


@dataclass(frozen=True)
class Examples:
    """A source and a target text for each row.

    Attributes:
        prefix: the text that every source starts with, because the variant is told the task by it.
        references: what metrics read beside the targets; (): nothing.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    prefix: str = ""
    references: Sequence[Reference] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Sequence[int] | np.ndarray) -> Examples:
        """The examples of some rows, in that order."""
        sources, targets = ([texts[i] for i in indices] for texts in (self.sources, self.targets))
        references = [self.references[i] for i in indices] if self.references else ()
        return Examples(sources, targets, self.prefix, references)

    def one_per_answer(self) -> Examples:
        """The examples to train on: one for each right answer of a row, none where the target is a wrong one."""
        if not any(reference.accepted for reference in self.references):
            return self
        pairs = [
            (row, answer)
            for row, reference in enumerate(self.references)
            for answer in dict.fromkeys(reference.accepted)
        ]
        rows = self.take([row for row, _ in pairs])
        return replace(rows, targets=[answer for _, answer in pairs])

    def row_hashes(self) -> list[str]:
        """16 hex digits (64 bits of BLAKE2b) for each row: of its texts, and not of the prefix.

        So the rows of two runs can be aligned, whatever their variants.
        """
        rows = zip(self.sources, self.targets, strict=True)
        return [_hash(f"{source.removeprefix(self.prefix)}\0{target}") for source, target in rows]


def checksum_of_targets(targets: Sequence[str], references: Sequence[Reference] = ()) -> str:
    """8 hex digits: the last ones of a split's fingerprint (:class:`TokenizedSplit`)."""
    told = [list(targets), [asdict(one) for one in references]] if references else list(targets)
    return f"{zlib.crc32(json.dumps(told).encode()):08x}"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def make_examples(task: Task, rows: Rows, *, prefix: bool, keep_unlabelled: bool = False) -> Examples:
    """The examples of the rows that have a label.

    Args:
        prefix: start every source with the task's prefix.
        keep_unlabelled: keep the rows without label too, as the authors' code does.

    Raises:
        DataError: there are no rows, or one lacks a column, a text or a label; the message
            names file and line.
    """
    if not rows.count:
        raise DataError(f"Task {task.name!r}: {rows.where}: no rows; put rows there, or leave the task out")
    _check_columns(task, rows, task.columns)
    made = apply(RECIPES[task.recipe], rows)
    targets, accepted = _targets(task, made, keep_unlabelled), _accepted(task, made)
    groups = _filled(task, made, task.group) if task.group else [""] * rows.count
    labelled = [row for row, target in enumerate(targets) if target is not None and accepted[row] is not None]
    references = map(Reference, groups, (answers or () for answers in accepted))
    return Examples(
        _filled(task, made, _pattern(task, prefix)),
        [target or "" for target in targets],
        _prefix(task) if prefix else "",
        list(references) if task.has_references else (),
    ).take(labelled)


def make_sources(task: Task, rows: Rows, *, prefix: bool) -> list[str]:
    """The source text of every row, which needs no label. Arguments and errors as of :func:`make_examples`."""
    _check_columns(task, rows, task.source_columns)
    return _filled(task, apply(RECIPES[task.recipe], rows), _pattern(task, prefix))


def _pattern(task: Task, prefix: bool) -> str:
    return (_escape(_prefix(task)) if prefix else "") + task.template


def _filled(task: Task, rows: Rows, template: str) -> list[str]:
    """A template, filled for every row."""
    parts = Formatter().parse(template)
    pattern = "".join(_escape(literal) + ("" if field is None else "{}") for literal, field, _, _ in parts)
    return list(map(pattern.format, *(_texts(task, rows, field) for field in fields_of(template))))


def _prefix(task: Task) -> str:
    return f"{task.prefix} " if task.prefix else ""


def _escape(literal: str) -> str:
    return literal.replace("{", "{{").replace("}", "}}")


def _check_columns(task: Task, rows: Rows, wanted: Sequence[str]) -> None:
    found = task.columns_in(rows.names)
    missing = [column for column in wanted if found[column] is None]
    if missing:
        raise DataError(
            f"Task {task.name!r}: {rows.where}: no column {', '.join(map(repr, missing))}; the task reads "
            f"{', '.join(wanted)}, and there are: {', '.join(map(repr, rows.names)) or 'none'}"
        )


def _texts(task: Task, rows: Rows, field: str, missing: str | None = None) -> Sequence[str]:
    """The values of a field of the template, or of the target; aliases are followed."""
    column = field.partition("[")[0]
    alias = task.columns_in(rows.names)[column]
    if not isinstance(alias, Alias):
        return texts(rows, field, missing=missing)
    values = texts(rows, alias.other + field.removeprefix(column), missing=missing)
    names = alias.values
    return values if names is None else [names.get(value, value) for value in values]


def _targets(task: Task, rows: Rows, keep_unlabelled: bool) -> list[str | None]:
    """The right answer of every row; None: it has none, and may lack it."""
    written = _texts(task, rows, task.target, "" if task.unlabelled_rows else None)
    answers: dict[str, str | None] = {}
    faults: dict[str, ValueError] = {}
    for text in dict.fromkeys(written):
        try:
            answers[text] = _answer(task, text, keep_unlabelled)
        except ValueError as error:
            faults[text] = error
    if faults:
        row = next(row for row, text in enumerate(written) if text in faults)
        count = sum(text in faults for text in written)
        raise DataError(
            f"Task {task.name!r}: {rows.place(row)}: column {task.target!r}: {written[row]!r} {faults[written[row]]}"
            + (f" ({count:,} such rows in all)" if count > 1 else "")
        )
    return [answers[text] for text in written]


def _accepted(task: Task, rows: Rows) -> Sequence[tuple[str, ...] | None]:
    """All right answers of every row; None: the row has no label, and may lack it."""
    if not task.accepted:
        return [()] * rows.count
    found: list[tuple[str, ...] | None] = []
    may_be_wrong = all(METRICS[name].judges_target for name in task.metrics)
    for row, values in enumerate(lists(rows, task.accepted)):
        if values or (may_be_wrong and values is not None):
            found.append(tuple(values))
        elif task.unlabelled_rows:
            found.append(None)
        else:
            raise DataError(
                f"Task {task.name!r}: {rows.place(row)}: column {task.accepted!r} has no right answer (an unlabelled "
                "test set?); train, validation and test all need them"
            )
    return found


def _answer(task: Task, text: str, keep_unlabelled: bool) -> str | None:
    """What the model has to write for this value of the target column; ValueError says what is wrong with it."""
    labels = task.labels or ()
    if task.rounded:
        import numpy as np  # too slow for the commands that only plan

        try:
            score = np.float32(text)  # as the hub stores scores, whatever file they come from
        except ValueError:
            score = np.float32("nan")
        if float(labels[0]) <= score <= float(labels[-1]):
            return task.answer_of(score)
    elif task.labels is None:
        if text.strip():
            if not can_be_right(task.answer, text.strip()):
                raise ValueError(
                    f"is not a finite number, and answer is {task.answer}; -1 stands for an invalid answer"
                )
            return text
    elif (answer := task.answer_of(text)) in labels:
        return answer
    if text.strip() in _UNLABELLED:
        if task.unlabelled_rows:
            return text if keep_unlabelled else None
        raise ValueError("is no label (an unlabelled test set?); train, validation and test all need labels")
    if task.rounded:
        raise ValueError(f"is not a number from {labels[0]} to {labels[-1]}")
    raise ValueError(f"is not a label{nearest(text, labels)}")
