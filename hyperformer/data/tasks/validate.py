"""Whether a task makes sense: its metrics, the kind of its answers, and its labels fit each other."""

from __future__ import annotations

from collections.abc import Iterator

from hyperformer.data.metrics import METRICS, READERS, can_be_right
from hyperformer.data.tasks.task import Task

_KINDS = {"int": "whole numbers of at most 64 bits", "float": "finite numbers"}


def task_fault(task: Task) -> tuple[str, str] | None:
    """The key of a task that does not fit the others, and why; None if all fit.

    A task that passes has metrics for every answer that a model can give.
    """
    return next(_faults(task), None)


def _faults(task: Task) -> Iterator[tuple[str, str]]:
    if not task.labels and not task.answer_tokens:
        yield "labels", "give labels (the list of answers), or answer_tokens for free text"
    labels = task.labels or ()
    for number, label in enumerate(labels):
        if not label or label != label.strip():
            yield "labels", f"{label!r} is empty, or has blanks around it, which do not count in answers"
        if label in labels[:number]:
            yield "labels", f"{label!r} is there twice"
    if task.label_map and not labels:
        yield "label_map", "it maps values of the target column to labels, and there are no labels"
    for label in (task.label_map or {}).values():
        if label not in labels:
            yield "label_map", f"it gives {label!r}, which is not in labels"
    if task.accepted and not any(METRICS[name].needs == "accepted" for name in task.metrics):
        yield "accepted", "none of the metrics reads it (squad does)"
    if task.accepted and labels:
        yield "accepted", "right answers are free text, and the task has labels: leave one of the two out"
    yield from _number_faults(task)
    for name in task.metrics:
        yield from _metric_faults(task, name)


def _number_faults(task: Task) -> Iterator[tuple[str, str]]:
    """Answers that are read as numbers must be numbers, and tell the labels apart."""
    labels = task.labels or ()
    if task.answer != "text":
        numbers = [READERS[task.answer](label) for label in labels]
        for label, number in zip(labels, numbers, strict=True):
            if not can_be_right(task.answer, label):
                yield (
                    "labels",
                    (
                        f"answer is {task.answer}, so labels must be {_KINDS[task.answer]} other than -1 (which stands "
                        f"for an invalid answer), and {label!r} is not"
                    ),
                )
            if numbers.count(number) > 1:
                yield "labels", f"{label!r} is the same number as another label, and answer is {task.answer}"
    if task.rounded:
        scores = [READERS["float"](label) for label in labels if can_be_right("float", label)]
        if len(scores) < max(2, len(labels)) or scores != sorted(scores) or scores[0] == scores[-1]:
            yield "labels", "rounded is true: list numbers from the least score to the highest"
        if task.answer == "int":
            yield "answer", "rounded is true, so answers are numbers such as 3.8: write float"


def _metric_faults(task: Task, name: str) -> Iterator[tuple[str, str]]:
    metric, labels = METRICS[name], task.labels or ()
    if task.answer not in metric.answers:
        yield (
            "metrics",
            (
                f"{name} reads answers as {' or '.join(metric.answers)}, and answer is {task.answer}: write answer: "
                f"{metric.answers[0]}, or take another metric"
            ),
        )
    if metric.labels == "binary" and set(labels) != {"0", "1"}:
        yield "metrics", f"{name} is for the labels 0 and 1: map them with label_map, or take macro_f1"
    if metric.labels == "two" and len(labels) != 2:
        yield (
            "metrics",
            f"{name} is for two labels, of which the second is the positive one; there are {len(labels)}",
        )
    if metric.needs == "group" and not task.group:
        yield (
            "metrics",
            f"{name} scores all rows of a question together: write group: '{{column}}', which tells the question",
        )
    if metric.needs == "accepted" and not task.accepted:
        yield (
            "metrics",
            f"{name} takes the best of all right answers: write accepted: the column with their list",
        )
    if metric.labels == "some" and not labels:
        yield "metrics", f"{name} compares labels, and the task has none (its answers are free text)"
    if metric.labels == "some" and task.rounded:
        yield "metrics", f"{name} compares labels, and rounded answers are any number between two labels"
