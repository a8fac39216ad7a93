"""What a model answered to the rows of one split of a task, and what was scored of it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hyperformer.data.metrics import READERS, compute_metrics
from hyperformer.data.question_metrics import Reference
from hyperformer.data.tasks.task import Task


@dataclass(frozen=True)
class Answer:
    """A model's answer to one row.

    Attributes:
        text: what is scored: the text without blanks around it, or the label that was chosen.
        generated: the text that the model wrote; None: a label was chosen (``decode=rank``).
        label_logprobs: label -> its log-probability, where a label was chosen.
    """

    text: str
    generated: str | None = None
    label_logprobs: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Answers:
    """The answers to all rows of one split of a task, as columns: entry n is of row n of the split.

    Attributes:
        task: read from a file, it holds only what scoring needs: name, metrics, labels, rounded, answer.
        split: 'validation' or 'test'; 'rows' if the rows came from a user's file.
        hashes: 16 hex digits for each row, of its texts alone (:meth:`Examples.row_hashes`), so that the rows of two
            runs can be aligned, whatever their variants and seeds. Equal rows have equal hashes.
        targets: the right answers, as text.
        generated: the texts that the model wrote; None where a label was chosen (``decode=rank``).
        scored: the answers as the metrics read them: texts, or numbers, of which -1 is an invalid answer.
        label_logprobs: for each row, label -> log-probability; None: not known (``decode=generate``).
        references: what some metrics read beside the targets; (): nothing.
    """

    task: Task
    split: str
    hashes: Sequence[str]
    targets: Sequence[str]
    generated: Sequence[str | None]
    scored: Sequence[Any]
    label_logprobs: Sequence[Mapping[str, float]] | None
    references: Sequence[Reference] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def metrics(self) -> dict[str, float]:
        """The task's metrics, in percent: those of result.json, to the last digit."""
        # A number's text is read as that very number.
        scored = [str(value) for value in self.scored]
        return compute_metrics(self.task, scored, self.targets, references=self.references)


def make_answers(
    task: Task,
    split: str,
    answers: Sequence[Answer],
    targets: Sequence[str],
    hashes: Sequence[str],
    references: Sequence[Reference] = (),
) -> Answers:
    """The columns of the answers to rows in their order."""
    logprobs = [answer.label_logprobs for answer in answers if answer.label_logprobs is not None]
    return Answers(
        task,
        split,
        hashes,
        targets,
        [answer.generated for answer in answers],
        [read_scored(task, answer.text) for answer in answers],
        logprobs or None,
        references,
    )


def read_scored(task: Task, text: str) -> Any:
    """An answer as the task's metrics read it."""
    return READERS[task.answer](text.strip())


def as_json(value: Any) -> Any:
    """A scored answer as JSON has it: 'nan' and 'inf' as text, since JSON has no such numbers."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
