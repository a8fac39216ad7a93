"""What a report says, as plain data. Every output (Markdown, CSV, the terminal) is rendered from this and nothing else.

Values are percent, differences percentage points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from launchers.plan.model_selection.choose import Choice
from launchers.report.results import RunResult

Column = tuple[str, str]
"""A task and its metric ('' while no run of the task has ended), or one of the two averages."""
AVERAGE: Column = ("Avg", "over columns")
"""The mean over all metric columns: a task with two metrics counts twice. The paper's average."""
TASK_AVERAGE: Column = ("Avg", "over tasks")
"""The mean over tasks of the mean of a task's metrics, as other papers have it."""
AVERAGES = (AVERAGE, TASK_AVERAGE)
GIVEN = ("model_name_or_path", "n_train")
"""What methods are given: rows that differ in these settings do not compete."""
LEVEL = 0.05
"""The share of false alarms that a mark of significance may have."""


@dataclass(frozen=True)
class Interval:
    """A 95% bootstrap interval over seeds of `estimate`, which is what `of` says."""

    estimate: float
    low: float
    high: float
    of: Literal["mean", "interquartile mean", "probability"] = "mean"


@dataclass(frozen=True)
class Difference:
    """How a row differs from the best row of a column on the same test rows, the runs being as they are.

    Attributes:
        value: the row's metric less the best row's, both averaged over seeds.
        low, high: its 95% interval, by a paired bootstrap over test rows.
        p: two-sided; `p_holm`: corrected for all pairs of rows in all columns of the table.
        rows: test rows.
    """

    value: float
    low: float
    high: float
    p: float
    p_holm: float
    rows: int

    @property
    def is_significant(self) -> bool:
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class Cell:
    """A metric of a row over its seeds.

    Attributes:
        n: seeds with a finite value; `planned`: seeds that were asked for.
        std: sample standard deviation; None for a single seed.
        values: seed -> value.
        interval: None for a single seed.
        is_best: no other row of its block has a higher mean, and some have one.
        difference: from the best row; None for that row itself, for averages, and where answers are missing.
    """

    n: int
    planned: int
    mean: float | None = None
    std: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)
    interval: Interval | None = None
    is_best: bool = False
    difference: Difference | None = None

    @property
    def is_complete(self) -> bool:
        """Whether it is over all seeds that were asked for."""
        return self.n == self.planned


@dataclass(frozen=True)
class Parameters:
    """Of one trained model; `percent_per_task` is trained per task, as a percentage of T5."""

    total: int
    trained: int
    percent_per_task: float


@dataclass(frozen=True)
class Row:
    """One line of a table: a variant with its settings.

    Attributes:
        settings: (setting, value as text) in which it differs from other rows of its variant.
        runs: its runs, the ones without a result too.
        choices: with `select:`, what was chosen for this row: one choice, or one per task.
        cells: every column of the table has one.
        validation: the number that settings are chosen by (`Table.validation_name`).
        unfinished: (run name, state, reason) of each run that has no result.
        gaps: what is missing from results, or is not a number, a line each.
    """

    variant: str
    settings: tuple[tuple[str, str], ...]
    cells: Mapping[Column, Cell]
    validation: Cell
    parameters: Parameters | None
    done: int
    planned: int
    unfinished: tuple[tuple[str, str, str], ...]
    runs: tuple[RunResult, ...] = ()
    gaps: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()

    @property
    def label(self) -> str:
        """'adapters max_steps=100'; settings that were chosen are not in it."""
        return " ".join([self.variant, *(f"{key}={text}" for key, text in self.settings)])

    @property
    def block(self) -> tuple[tuple[str, str], ...]:
        """What it was given: only rows of one block are compared."""
        return tuple(item for item in self.settings if item[0] in GIVEN)

    @property
    def chosen_label(self) -> str:
        """'learning_rate=0.001'; 'cola: max_steps=8; rte: max_steps=9'; 'none'; '' where there was no choice."""
        told = []
        for choice in self.choices:
            if len(choice.options) > 1 or choice.chosen is None:
                tasks = choice.task or dict(set(choice.row) - set(self.settings)).get("tasks")
                what = choice.chosen.label if choice.chosen else "none"
                told.append(f"{tasks}: {what}" if tasks else what)
        return "; ".join(told)


@dataclass(frozen=True)
class Precision:
    """What a test set can tell: its number of rows, and one standard error of the metric of the best row of a block.

    The error is that of one model's metric on other rows of the same kind.
    """

    rows: int
    standard_error: float


@dataclass(frozen=True)
class Table:
    """Results on one split ('test' or 'validation').

    Attributes:
        columns: metrics by task, then AVERAGES.
        rows: block by block.
        validation_name: what `Row.validation` is, in words.
        is_appendix: it shows all settings, the ones that were not chosen too.
        warnings: why some results should not be compared.
        precision: of the columns of the test split of which it is known.
        pairs: in how many comparisons the p-values of cells are corrected; 0: rows were not tested.
        untested: why rows are not tested against each other in some columns, a line each.
    """

    split: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    validation_name: str
    is_appendix: bool = False
    warnings: tuple[str, ...] = ()
    precision: Mapping[Column, Precision] = field(default_factory=dict)
    pairs: int = 0
    untested: tuple[str, ...] = ()

    @property
    def has_choices(self) -> bool:
        """Whether its rows are chosen settings."""
        return any(row.choices for row in self.rows)

    @property
    def blocks(self) -> list[list[Row]]:
        """The rows that are compared with each other."""
        return [list(rows) for _, rows in groupby(self.rows, lambda row: row.block)]


@dataclass(frozen=True)
class Comparison:
    """The row of a block with the best average over tasks and another one, by their seeds' averages over tasks.

    Attributes:
        probability: that a seed of `better` scores higher on a task than a seed of `other`, percent, mean over tasks.
        interval: of it, over seeds; None where a row has one seed.
        difference: of their averages over tasks, percentage points.
        p: of the difference, two-sided, by a permutation test; None where a row has one seed.
        least_p: the smallest p that so many seeds can give.
    """

    better: str
    other: str
    probability: float
    interval: Interval | None
    difference: float
    p: float | None
    least_p: float


@dataclass(frozen=True)
class ReportData:
    """A report.

    Attributes:
        runs: all planned runs, with their results.
        tables: what a paper prints: the test table first, if there is one. With `select:`, chosen settings only.
        appendix: with `select:`, the same with all settings.
        choices: of `select:`, in the order of the sweep file.
        comparisons: of rows of the first table.
        notes: what a reader must know, a line each; those of a table are in `tables`.
    """

    name: str
    runs: tuple[RunResult, ...]
    tables: tuple[Table, ...]
    appendix: tuple[Table, ...] = ()
    choices: tuple[Choice, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
