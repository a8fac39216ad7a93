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
from launchers.report.report_data import AVERAGE, ReportData
from launchers.report.results import RunResult

SPLIT = "validation"
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
    """A row by what it trains and what it scores. `is_front`: no other row trains less and scores as well."""

    label: str
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
    found = [
        (row.label, row.parameters.percent_per_task, row.cells[AVERAGE].mean)
        for row in data.tables[0].rows
        if row.parameters is not None
    ]
    known = [(label, share, score) for label, share, score in found if score is not None]
    return [
        TradeOff(label, share, score, not any(_is_better(other, (share, score)) for _, *other in known))
        for label, share, score in known
    ]


def _is_better(other: Sequence[float], than: tuple[float, float]) -> bool:
    return other[0] <= than[0] and other[1] >= than[1] and (other[0], other[1]) != than


def row_curves(data: ReportData) -> dict[str, list[tuple[int, float, float | None]]]:
    """Label -> (training rows per task, mean, standard deviation) of rows that differ in `n_train`; else nothing."""
    found: dict[str, list[tuple[int, float, float | None]]] = defaultdict(list)
    for row in data.tables[0].rows:
        settings = dict(row.settings)
        cell = row.cells[AVERAGE]
        with suppress(ValueError):
            if ROWS in settings and cell.mean is not None:
                rest = [f"{key}={text}" for key, text in row.settings if key != ROWS]
                found[" ".join([row.variant, *rest])].append((int(settings[ROWS]), cell.mean, cell.std))
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
