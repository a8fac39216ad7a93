"""What the figures of a report show, as plain data. Draws nothing."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hyperformer.run_files.run_folder import RunFolder
from hyperformer.run_files.validations import AVERAGE as OF_RUN
from hyperformer.run_files.validations import read_validations
from launchers.report.report_data import AVERAGE, AVERAGES, Column, ReportData, Table
from launchers.report.results import RunResult

ROWS = "n_train"
_POINTS = 200
"""Of a curve at most: more cannot be told apart on a page."""


@dataclass(frozen=True)
class CurvePoint:
    """A point of a learning curve, over the seeds that were evaluated there.

    Attributes:
        hours: GPU-hours (processor-hours on a CPU) per run until there; None while a run has no result.
        mean, low, high: of the validation average over columns, percent.
    """

    step: int
    hours: float | None
    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Curve:
    """How a row of the results table learned."""

    label: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class TradeOff:
    """A row by what it trains and what it scores.

    Attributes:
        block: of the table, as text: rows of other blocks were given something else.
        is_front: no other row of the block trains less and scores as well.
    """

    label: str
    block: str
    percent_per_task: float
    score: float
    is_front: bool


def device_hours(entry: RunResult) -> float | None:
    """Of training and evaluation, over all attempts and ranks; None: the run has no result."""
    seconds = (entry.result or {}).get("seconds") or {}
    if not {"train", "evaluate"} <= set(seconds):
        return None
    return (seconds["train"] + seconds["evaluate"]) * (entry.result or {}).get("ranks", 1) / 3600


def learning_curves(data: ReportData) -> list[Curve]:
    """A curve per row of the results table; rows without an evaluation have none."""
    return [curve for row in data.tables[0].rows if (curve := _curve(row.label, row.runs)).points]


def trade_offs(data: ReportData) -> list[TradeOff]:
    """The rows with an average and a count of parameters; of equal ones both are on the front."""
    found = []
    for block in data.tables[0].blocks:
        known = {
            row.label: (row.parameters.percent_per_task, score)
            for row in block
            if row.parameters is not None and (score := row.cells[AVERAGE].mean) is not None
        }
        for label, place in known.items():
            is_front = not any(_is_better(other, place) for other in known.values())
            found.append(TradeOff(label, str(block[0].block), *place, is_front))
    return found


def _is_better(other: tuple[float, float], than: tuple[float, float]) -> bool:
    return other[0] <= than[0] and other[1] >= than[1] and other != than


RowCurves = dict[str, list[tuple[int, float, float | None]]]
"""Label -> (training rows per task, mean, standard deviation)."""


def row_curves(data: ReportData) -> dict[str, RowCurves]:
    """What is scored -> the curves of rows that differ in `n_train`: '' is the average over columns.

    Where the sweep does not ask for every task with every number of rows, there are those of each task too: the mean
    of its metrics.
    """
    table = data.tables[0]
    tasks: dict[str, list[Column]] = {"": [AVERAGE]}
    if any(not row.cells[AVERAGE].planned for row in table.rows):
        for column in [column for column in table.columns if column not in AVERAGES]:
            tasks.setdefault(column[0], []).append(column)
    curves = {task: _by_rows(table, columns) for task, columns in tasks.items()}
    return {task: found for task, found in curves.items() if found}


def _by_rows(table: Table, columns: Sequence[Column]) -> RowCurves:
    found: RowCurves = defaultdict(list)
    for row in table.rows:
        settings = dict(row.settings)
        by_seed = [row.cells[column].values for column in columns]
        seeds = set.intersection(*map(set, by_seed))
        scores = [statistics.fmean(values[seed] for values in by_seed) for seed in sorted(seeds)]
        with suppress(ValueError):
            if ROWS in settings and scores:
                rest = [f"{key}={text}" for key, text in row.settings if key != ROWS]
                std = statistics.stdev(scores) if len(scores) > 1 else None
                point = (int(settings[ROWS]), statistics.fmean(scores), std)
                found[" ".join([row.variant, *rest])].append(point)
    return {label: sorted(points) for label, points in found.items() if len(points) > 1}


def hours_by_row(data: ReportData) -> dict[str, float]:
    """Label -> GPU-hours of its runs that have a result."""
    hours = {row.label: math.fsum(filter(None, map(device_hours, row.runs))) for row in data.tables[0].rows}
    return {label: value for label, value in hours.items() if value > 0}


def _curve(label: str, entries: Sequence[RunResult]) -> Curve:
    by_seed: dict[int, list[Mapping[int, Mapping[str, float]]]] = defaultdict(list)
    for entry in entries:
        by_seed[entry.run.config.seed].append(read_validations(RunFolder(entry.folder).metrics))
    values: dict[int, list[float]] = defaultdict(list)
    for parts in by_seed.values():
        # Runs of single tasks count where all tasks of the row were evaluated.
        for step in set.intersection(*(set(part) for part in parts)):
            columns = [value for part in parts for name, value in part[step].items() if name != OF_RUN]
            if columns and all(map(math.isfinite, columns)):
                values[step].append(statistics.fmean(columns))
    steps = sorted(values)
    kept = steps[:: max(1, math.ceil(len(steps) / _POINTS))]
    hours = _hours_per_step(entries)
    points = [
        CurvePoint(
            step,
            None if hours is None else hours * step,
            statistics.fmean(values[step]),
            min(values[step]),
            max(values[step]),
            len(values[step]),
        )
        for step in dict.fromkeys([*kept, *steps[-1:]])
    ]
    return Curve(label, tuple(points))


def _hours_per_step(entries: Sequence[RunResult]) -> float | None:
    """Per seed, spread evenly over the steps; None while a run has no result."""
    rates = []
    for entry in entries:
        hours = device_hours(entry)
        if hours is None or entry.result is None:
            return None
        # A run that `early_stop` ended took fewer steps than it could have.
        rates.append(hours / (entry.result.get("steps") or entry.run.config.training.max_steps))
    return math.fsum(rates) / len({entry.run.config.seed for entry in entries}) if rates else None
