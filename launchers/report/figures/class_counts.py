"""Which classes a run confused, from its answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyperformer.errors import HyperformerError
from launchers.report.report_data import AVERAGE, ReportData
from launchers.report.results import RunResult


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix of a run on a task: rows by target (outer) and by answer (inner), over `classes`."""

    run: str
    task: str
    split: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def confusions(data: ReportData) -> Iterator[Confusion]:
    """Of the first seed of the row with the best average, each task; tasks without classes or answers have none."""
    table = data.tables[0]
    scored = [(row.cells[AVERAGE].mean, row) for row in table.rows]
    known = [(mean, row) for mean, row in scored if mean is not None]
    if not known:
        return
    _, best = max(known, key=lambda each: each[0])
    seed = min(entry.run.config.seed for entry in best.runs if entry.result is not None)
    for entry in best.runs:
        if entry.result is not None and entry.run.config.seed == seed:
            yield from _of_run(entry, table.split)


def _of_run(entry: RunResult, split: str) -> Iterator[Confusion]:
    from hyperformer.answers.classes import class_report  # imports numpy
    from hyperformer.answers.files import read_answers

    for task in ((entry.result or {}).get("answers") or {}).get(split) or {}:
        try:
            found = class_report(read_answers(entry.folder, split, task))
        except HyperformerError:  # `rescore` and `verify` tell of damage; a figure is not worth a report
            continue
        if found is None:
            continue
        used = [
            index
            for index, line in enumerate(found.confusion)
            if any(line) or _is_given(found.confusion, index)
        ]
        counts = tuple(tuple(found.confusion[row][column] for column in used) for row in used)
        yield Confusion(entry.run.name, task, split, tuple(found.classes[index] for index in used), counts)


def _is_given(counts: tuple[tuple[int, ...], ...], index: int) -> bool:
    return any(line[index] for line in counts)
