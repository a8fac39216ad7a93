"""The numbers of the results table, from the runs' result.json. Renders nothing.

A row is a variant with its settings; its runs differ in seed, and for
single-task variants in the task, which are put together again. A column is a
metric of a task. Values are percent.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hyperformer.settings.build import flatten, settings
from launchers.plan.runs import Run
from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger
from launchers.store.records import try_record

Column = tuple[str, str]  # task, metric ('' while no run of the task has ended)
AVERAGE: Column = ("Avg", "")


@dataclass(frozen=True)
class Cell:
    """Mean and sample standard deviation over `n` of the `planned` seeds."""

    n: int
    planned: int
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class Parameters:
    """Of one trained model; `percent_per_task` is trained per task, as a percentage of T5."""

    total: int
    trained: int
    percent_per_task: float


@dataclass(frozen=True)
class Row:
    """One line of the table. `unfinished`: (run name, state, reason) of each run that has no result."""

    variant: str
    settings: tuple[tuple[str, str], ...]
    cells: dict[Column, Cell]
    parameters: Parameters | None
    done: int
    planned: int
    unfinished: tuple[tuple[str, str, str], ...]

    @property
    def label(self) -> str:
        return " ".join([self.variant, *(f"{key}={text}" for key, text in self.settings)])


@dataclass(frozen=True)
class Table:
    """The results on one split ('test' or 'validation').

    Attributes:
        columns: they end with AVERAGE.
        warnings: why some results should not be compared.
    """

    split: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """A planned run and what came of it."""

    run: Run
    status: RunStatus
    result: dict[str, Any] | None

    def metrics(self, split: str) -> dict[Column, float]:
        found = {}
        for task, metrics in ((self.result or {}).get(split) or {}).items():
            for metric, value in metrics.items():
                found[task, metric] = float(value)
        return found


@dataclass
class _Gathered:
    """A row while its runs are collected."""

    runs: list[RunResult] = field(default_factory=list)

    def has(self, run: Run) -> bool:
        """Whether it has a result of one of the run's tasks with the run's seed."""
        return any(
            entry.run.config.seed == run.config.seed
            and not set(run.config.data.tasks).isdisjoint(entry.run.config.data.tasks)
            for entry in self.runs
        )

    def seeds(self, split: str) -> dict[int, dict[Column, float]]:
        by_seed: dict[int, dict[Column, float]] = {}
        for entry in self.runs:
            by_seed.setdefault(entry.run.config.seed, {}).update(entry.metrics(split))
        return by_seed

    def planned(self, task: str) -> int:
        return len({entry.run.config.seed for entry in self.runs if task in entry.run.config.data.tasks})


def collect(ledger: Ledger, statuses: Sequence[RunStatus]) -> list[RunResult]:
    """Read the results of the plan's runs; `statuses` are theirs, in order."""
    entries = []
    for run, status in zip(ledger.plan.runs, statuses, strict=True):
        done = status.state == "done"
        entries.append(
            RunResult(run, status, try_record(ledger.folder(run) / "result.json") if done else None)
        )
    return entries


def make_table(entries: Sequence[RunResult], split: str) -> Table:
    """The table of one split."""
    columns = _columns(entries, split)
    groups: dict[Any, _Gathered] = {}
    for entry in entries:
        key = entry.run.row
        if key in groups and groups[key].has(entry.run):
            # Two runs cannot be one seed's result of one task: they are rows of their own.
            key = (key[0], (*key[1], ("signature", entry.run.signature)))
        groups.setdefault(key, _Gathered()).runs.append(entry)
    rows = [_row(variant, settings, group, columns, split) for (variant, settings), group in groups.items()]
    return Table(split, (*columns, AVERAGE), tuple(rows), (*mixed_inputs(entries), *unknown_inputs(entries)))


def mixed_inputs(entries: Sequence[RunResult]) -> Iterator[str]:
    """What runs with the same model and data settings did not have in common, though they should.

    The rows of a hub data set, or a model's weights, may have changed between two runs; each run has
    recorded what it read (``inputs`` in result.json).
    """
    found: dict[tuple[Any, str], dict[str, list[str]]] = {}
    for entry in entries:
        inputs = (entry.result or {}).get("inputs") or {}
        read = {f"the rows of {name}": rows for name, rows in inputs.get("rows", {}).items()}
        if inputs.get("base_model"):
            read["the weights of the base model"] = inputs["base_model"]
        if inputs.get("global_batch_size"):
            rows = entry.run.config.training.rows_per_rank
            read[f"the global batch ({rows} rows per rank)"] = inputs["global_batch_size"]
        source = _source(entry.run)
        for what, value in read.items():
            found.setdefault((source, what), {}).setdefault(str(value), []).append(entry.run.name)
    for (_, what), runs_by_value in found.items():
        if len(runs_by_value) > 1:
            groups = sorted(runs_by_value.values(), key=len)
            others = "; ".join(", ".join(names) for names in groups[:-1])
            yield f"{what} changed between runs: {others} had others than {', '.join(groups[-1])}"


def unknown_inputs(entries: Sequence[RunResult]) -> Iterator[str]:
    """Runs of which it is not known what they read, beside runs of which it is.

    Versions before ``inputs`` recorded none; a run that began under one has its steps since then.
    """
    results = [(entry.run.name, entry.result) for entry in entries if entry.result is not None]
    without = [name for name, result in results if not result.get("inputs")]
    partly = [name for name, result in results if "inputs_unknown_before_step" in result]
    if without and len(without) < len(results):
        yield f"it was not recorded which rows and weights {', '.join(without)} read, as it was for other runs"
    if partly:
        yield f"it was not recorded which rows and weights the first steps of {', '.join(partly)} read"


def _source(run: Run) -> tuple[Any, ...]:
    """The settings that say what a run reads."""
    flat = flatten(run.config)
    keys = [key for key, item in settings().items() if item.section in ("model", "data") and item.result]
    return (run.config.task_prefix, *(flat[key] for key in keys if key != "tasks"))


def splits(entries: Sequence[RunResult]) -> list[str]:
    """The splits that have results, test first; 'test' if nothing has."""
    found = [split for split in ("test", "validation") if any(entry.metrics(split) for entry in entries)]
    return found or ["test"]


def _columns(entries: Sequence[RunResult], split: str) -> tuple[Column, ...]:
    """Tasks in the order of the sweep, metrics in the order of the results."""
    metrics: dict[str, dict[str, None]] = {}
    for entry in entries:
        for task in entry.run.config.data.tasks:
            metrics.setdefault(task, {})
        for task, metric in entry.metrics(split):
            metrics.setdefault(task, {})[metric] = None
    return tuple((task, metric) for task, names in metrics.items() for metric in (names or [""]))


def _row(
    variant: str,
    settings: tuple[tuple[str, str], ...],
    group: _Gathered,
    columns: tuple[Column, ...],
    split: str,
) -> Row:
    by_seed = group.seeds(split)
    cells = {}
    for column in columns:
        values = [metrics[column] for metrics in by_seed.values() if column in metrics]
        cells[column] = _cell(values, group.planned(column[0]))
    # An average over some of the tasks would not compare with the others.
    averages = [
        statistics.fmean(metrics[column] for column in columns)
        for metrics in by_seed.values()
        if all(column in metrics for column in columns)
    ]
    cells[AVERAGE] = _cell(averages, len(by_seed))
    return Row(
        variant=variant,
        settings=settings,
        cells=cells,
        parameters=_parameters(group.runs),
        done=sum(entry.result is not None for entry in group.runs),
        planned=len(group.runs),
        unfinished=tuple(
            (entry.run.name, entry.status.state, entry.status.detail)
            for entry in group.runs
            if entry.result is None
        ),
    )


def _cell(values: Sequence[float], planned: int) -> Cell:
    if not values:
        return Cell(0, planned)
    std = statistics.stdev(values) if len(values) > 1 else None
    return Cell(len(values), planned, statistics.fmean(values), std)


def _parameters(entries: Sequence[RunResult]) -> Parameters | None:
    """Of one model of the row; its runs differ in seed and task, which hardly change them: the largest."""
    found = [entry.result["parameters"] for entry in entries if entry.result]
    if not found:
        return None
    most = max(found, key=lambda each: each["total"])
    return Parameters(most["total"], most["trained"], most["trained_percent_per_task"])
