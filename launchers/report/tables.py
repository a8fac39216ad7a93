"""The numbers of a results table. Renders nothing.

A row is a variant with its settings; its runs differ in seed, and for
single-task variants in the task, which are put together again. A column is a
metric of a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from launchers.plan.model_selection.choose import Choice, ScoredSetting, score_setting
from launchers.plan.model_selection.rows import RowKey, Settings, row_keys
from launchers.plan.model_selection.rule import SHORT_METRICS, Number
from launchers.report.report_data import AVERAGE, AVERAGES, TASK_AVERAGE, Cell, Column, Parameters, Row, Table
from launchers.report.results import RunResult, mixed_inputs, unknown_inputs

_AVERAGES = {AVERAGE: Number("columns"), TASK_AVERAGE: Number("tasks")}


@dataclass(frozen=True)
class Group:
    """The runs of one row."""

    variant: str
    settings: Settings
    entries: tuple[RunResult, ...]
    choices: tuple[Choice, ...] = ()


def all_groups(entries: Sequence[RunResult]) -> list[Group]:
    """A row for each combination of settings."""
    found: dict[RowKey, list[RunResult]] = {}
    shares_rows = _tasks_share_rows(entries)
    for entry, key in zip(entries, row_keys(entry.run for entry in entries), strict=True):
        found.setdefault(_without_tasks(key) if shares_rows else key, []).append(entry)
    return [Group(variant, settings, tuple(members)) for (variant, settings), members in found.items()]


def _tasks_share_rows(entries: Sequence[RunResult]) -> bool:
    """Whether runs of different tasks fill the columns of one row: no task is in two of them."""
    found: dict[RowKey, set[tuple[str, ...]]] = {}
    for entry, key in zip(entries, row_keys(entry.run for entry in entries), strict=True):
        found.setdefault(_without_tasks(key), set()).add(entry.run.config.data.tasks)
    return all(len(set(chain(*sets))) == sum(map(len, sets)) for sets in found.values())


def _without_tasks(key: RowKey) -> RowKey:
    return key[0], tuple(item for item in key[1] if item[0] != "tasks")


def chosen_groups(entries: Sequence[RunResult], choices: Iterable[Choice]) -> list[Group]:
    """A row for each variant, with the runs of the chosen settings; of no setting where none could be chosen."""
    by_signature = {entry.run.signature: entry for entry in entries}
    shares_rows = _tasks_share_rows(entries)
    found: dict[RowKey, Group] = {}
    for choice in choices:
        option = choice.chosen or choice.options[0]
        members = [by_signature[run.signature] for run in option.runs]
        if choice.chosen is None:  # whatever there is of them is no result of a chosen setting
            members = [replace(entry, result=None) for entry in members]
        key = (choice.variant, choice.row)
        key = _without_tasks(key) if shares_rows else key
        group = found.get(key, Group(*key, ()))
        found[key] = replace(group, entries=(*group.entries, *members), choices=(*group.choices, choice))
    return list(found.values())


def make_table(
    groups: Sequence[Group],
    split: str,
    number: Number,
    first: Sequence[str] = (),
    is_appendix: bool = False,
) -> Table:
    """The table of one split.

    Args:
        number: what settings are chosen by; it is shown beside each row.
        first: the first columns: tasks, or tasks with a metric.
    """
    entries = [entry for group in groups for entry in group.entries]
    columns = {where: _columns(entries, where) for where in {split, "validation"}}
    rows = [_row(group, split, number, columns) for group in groups]
    names = [(task, metric) for task, metrics in columns[split].items() for metric in metrics or [""]]
    return Table(
        split,
        (*sorted(names, key=lambda column: _place(column, first)), *AVERAGES),
        with_best(rows),
        number.name,
        is_appendix,
        (*mixed_inputs(entries), *unknown_inputs(entries)),
    )


def _place(column: Column, first: Sequence[str]) -> int:
    """The place of a column; that of a metric takes precedence over that of its task."""
    task, metric = column
    for name in (f"{task} {SHORT_METRICS.get(metric, metric)}", task):
        if name in first:
            return first.index(name)
    return len(first)


def splits(entries: Sequence[RunResult]) -> list[str]:
    """The splits that have results, test first; 'test' if nothing has."""
    found = [split for split in ("test", "validation") if any(entry.metrics(split) for entry in entries)]
    return found or ["test"]


Columns = Mapping[str, Sequence[str]]


def _columns(entries: Sequence[RunResult], split: str) -> Columns:
    """Task -> its metrics: tasks in the order of the sweep, metrics in the order of the results."""
    metrics: dict[str, dict[str, None]] = {}
    for entry in entries:
        for task in entry.run.config.data.tasks:
            metrics.setdefault(task, {})
        for task, values in entry.metrics(split).items():
            metrics.setdefault(task, {}).update(dict.fromkeys(values))
    return {task: list(names) for task, names in metrics.items()}


def _row(group: Group, split: str, number: Number, columns: Mapping[str, Columns]) -> Row:
    average = _scored(group, split, Number(), columns[split])
    metrics = [
        Number("metric", task, name) for task, names in columns[split].items() for name in names or [""]
    ]
    cells = {(one.task, one.metric): _cell(_scored(group, split, one, columns[split])) for one in metrics}
    # An average over some of the tasks would not compare with the others: it needs every column.
    cells |= {column: _cell(_scored(group, split, one, columns[split])) for column, one in _AVERAGES.items()}
    unfinished = [entry for entry in group.entries if entry.result is None]
    names = {entry.run.name for entry in unfinished}
    gaps = [gap.text for gap in average.gaps if gap.run not in names]
    asked = {task for entry in group.entries for task in entry.run.config.data.tasks}
    absent = [task for task in columns[split] if task not in asked]
    if absent:  # the sweep does not ask for them: no result is missing
        cells |= dict.fromkeys(AVERAGES, Cell(0, 0))
        gaps = [f"no run trains {', '.join(absent)}, so there is no average"]
    return Row(
        variant=group.variant,
        settings=group.settings,
        cells=cells,
        validation=_cell(_scored(group, "validation", number, columns["validation"])),
        parameters=_parameters(group.entries),
        done=len(group.entries) - len(unfinished),
        planned=len(group.entries),
        unfinished=tuple((entry.run.name, entry.state, entry.status.detail) for entry in unfinished),
        runs=group.entries,
        gaps=tuple(gaps),
        choices=group.choices,
    )


def _scored(group: Group, split: str, number: Number, columns: Columns) -> ScoredSetting:
    """The seeds of a row, by any number."""
    needed = columns
    if number.task:
        needed = {number.task: [number.metric] if number.kind == "metric" else columns.get(number.task, ())}
    return score_setting(group.settings, [entry.on(split) for entry in group.entries], number, needed)


def _cell(scored: ScoredSetting) -> Cell:
    return Cell(len(scored.scores), scored.planned, scored.mean, scored.std, scored.scores)


def with_best(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, block by block, the best of each column marked where several of a block have a value."""
    blocks: dict[Settings, list[Row]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    texts = list(dict.fromkeys(text for block in blocks for _, text in block))
    by_size = {text: _number(text, number) for number, text in enumerate(texts)}
    ordered = sorted(blocks, key=lambda block: [by_size[text] for _, text in block])
    return tuple(row for block in ordered for row in _best_of(blocks[block]))


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


def _best_of(rows: Sequence[Row]) -> tuple[Row, ...]:
    means: dict[Column, list[float]] = {}
    for row in rows:
        for column, cell in row.cells.items():
            means.setdefault(column, []).extend([] if cell.mean is None else [cell.mean])
    best = {column: max(values) for column, values in means.items() if len(values) > 1}
    return tuple(
        replace(
            row,
            cells={
                column: replace(cell, is_best=column in best and cell.mean == best[column])
                for column, cell in row.cells.items()
            },
        )
        for row in rows
    )


def _parameters(entries: Sequence[RunResult]) -> Parameters | None:
    """Of one model of the row; its runs differ in seed and task, which hardly change them: the largest."""
    found = [entry.result["parameters"] for entry in entries if entry.result]
    if not found:
        return None
    most = max(found, key=lambda each: each["total"])
    return Parameters(most["total"], most["trained"], most["trained_percent_per_task"])
