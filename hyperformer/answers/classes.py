"""How a task's answers tell its classes apart: precision, recall, F1, confusion, and whether it is one class for all.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hyperformer.answers.answers import Answers, read_scored
from hyperformer.data.tasks.task import Task

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

    if not _has_classes(answers.task):
        return None
    classes = _classes(answers.task)
    targets, given = _numbers_of(answers)
    numbers = range(len(classes) - 1)
    precision, recall, f1, rows = precision_recall_fscore_support(
        targets, given, labels=list(numbers), zero_division=0
    )
    matrix = confusion_matrix(targets, given, labels=[*numbers, len(numbers)])
    return ClassReport(
        classes,
        _percent(precision),
        _percent(recall),
        _percent(f1),
        tuple(map(int, rows)),
        tuple(tuple(map(int, line)) for line in matrix),
    )


def one_class(answers: Mapping[str, Answers]) -> dict[str, str]:
    """Task -> the class that all its rows were answered with, 'invalid' included, though the right answers differ.

    Tasks without classes are left out, and those whose answers are of several.
    """
    found = {}
    for name, some in answers.items():
        if _has_classes(some.task):
            targets, given = map(set, _numbers_of(some))
            if len(given) == 1 and len(targets) > 1:
                found[name] = _classes(some.task)[given.pop()]
    return found


def _has_classes(task: Task) -> bool:
    return task.labels is not None and not task.rounded


def _classes(task: Task) -> tuple[str, ...]:
    """The labels, and last the class of everything else."""
    labels = task.labels or ()
    return (*labels, INVALID if INVALID not in labels else "none of the labels")


def _numbers_of(answers: Answers) -> tuple[list[int], list[int]]:
    """The number in :func:`_classes` of each right answer, and of each answer."""
    task = answers.task
    known = [read_scored(task, label) for label in task.labels or ()]
    targets = [read_scored(task, text) for text in answers.targets]
    return _numbers(known, targets), _numbers(known, answers.scored)


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
