"""Precision, recall and F1 of each class, and the confusion matrix, from a task's answers. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hyperformer.answers.answers import Answers, read_scored

INVALID = "invalid"


@dataclass(frozen=True)
class ClassReport:
    """How the classes of a task were told apart.

    Attributes:
        classes: the task's labels, and last the class of everything that is none of them ('invalid').
        precision, recall, f1: of each class but the last, in percent; 0 where a class never occurs.
        rows: of each class but the last: how many rows have it as the right answer.
        confusion: rows by right answer (outer) and by answer (inner), both over `classes`.
    """

    classes: tuple[str, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    rows: tuple[int, ...]
    confusion: tuple[tuple[int, ...], ...]


def class_report(answers: Answers) -> ClassReport | None:
    """The report of a task; None if it has no classes: its answers are free text, or scores (stsb)."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    task = answers.task
    if task.labels is None or task.rounded:
        return None
    known = [read_scored(task, label) for label in task.labels]
    targets = _numbers(known, [read_scored(task, text) for text in answers.targets])
    given = _numbers(known, answers.scored)
    numbers = range(len(known))
    precision, recall, f1, rows = precision_recall_fscore_support(
        targets, given, labels=list(numbers), zero_division=0
    )
    matrix = confusion_matrix(targets, given, labels=[*numbers, len(known)])
    last = INVALID if INVALID not in task.labels else "none of the labels"
    return ClassReport(
        (*task.labels, last),
        _percent(precision),
        _percent(recall),
        _percent(f1),
        tuple(map(int, rows)),
        tuple(tuple(map(int, line)) for line in matrix),
    )


def _percent(shares: Iterable[float]) -> tuple[float, ...]:
    return tuple(100 * float(share) for share in shares)


def _numbers(known: Sequence[object], values: Sequence[object]) -> list[int]:
    """The number of each value among the known ones; one more for what is not known."""
    numbers = {value: number for number, value in enumerate(known)}
    return [numbers.get(value, len(known)) for value in values]


def class_table(report: ClassReport) -> str:
    """The report for people: one line per class, with its row of the confusion matrix."""
    names = report.classes
    width = max(len("right answer"), *map(len, names))
    head = f"{'right answer':<{width}}  precision  recall     f1   rows | answered: "
    counts = [max(len(name), 5) for name in names]
    lines = [head + "  ".join(f"{name:>{size}}" for name, size in zip(names, counts, strict=True))]
    for number, line in enumerate(report.confusion):
        if number < len(report.rows):
            scores = (report.precision[number], report.recall[number], report.f1[number])
            start = "{:>9.2f}  {:>6.2f} {:>6.2f}".format(*scores) + f"  {report.rows[number]:>5}"
        elif any(line):
            start = f"{'':>24}  {sum(line):>5}"
        else:
            continue
        cells = "  ".join(f"{count:>{size}}" for count, size in zip(line, counts, strict=True))
        lines.append(f"{names[number]:<{width}}  {start} | {'':>10}{cells}")
    return "\n".join(lines)
