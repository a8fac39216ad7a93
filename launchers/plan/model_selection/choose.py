"""The setting of each variant that is best on validation: a pure function of the plan and its results.

The mean over seeds decides. A setting that lacks results of some seeds comes after all that lack fewer: one that
diverged with one seed of three is not chosen for the other two.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from launchers.plan.model_selection.rows import Settings, row_keys
from launchers.plan.model_selection.rule import Number, SelectionRule
from launchers.plan.plan import Run

Metrics = Mapping[str, Mapping[str, float]]
Columns = Mapping[str, Collection[str]]
Key = tuple[str, Settings, str | None]
EQUAL = 1e-9
"""Percent. Means that differ by less are tied: only rounding sets them apart."""


@dataclass(frozen=True)
class Validation:
    """A planned run, and what its validation gave.

    Attributes:
        metrics: task -> metric -> percent; None: there is no result.
        state: the run's, in words.
        diverged: there is no result because the loss was not a number: another attempt would not help.
        left: there is no result because a race left its setting for better ones.
    """

    run: Run
    metrics: Metrics | None
    state: str = "done"
    diverged: bool = False
    left: bool = False


@dataclass(frozen=True)
class Gap:
    """Why a setting has no number of some seed. `run`: the run's name; `is_unconfirmed`: that may still change."""

    run: str
    why: str
    is_unconfirmed: bool

    @property
    def text(self) -> str:
        return f"{self.run}: {self.why}"


@dataclass(frozen=True)
class ScoredSetting:
    """One of the settings to choose from.

    Attributes:
        settings: (setting, value as text) of those that are chosen.
        runs: of all its seeds and, of a single-task variant, tasks.
        scores: seed -> percent; only seeds of which every run has all numbers.
        planned: how many seeds were asked for.
    """

    settings: Settings
    runs: tuple[Run, ...]
    scores: Mapping[int, float]
    planned: int
    gaps: tuple[Gap, ...] = ()

    @property
    def mean(self) -> float | None:
        """Over seeds, percent; None: no seed has a number."""
        return statistics.fmean(self.scores.values()) if self.scores else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds."""
        return statistics.stdev(self.scores.values()) if len(self.scores) > 1 else None

    @property
    def label(self) -> str:
        """'learning_rate=0.001 reduction_factor=16'."""
        return " ".join(f"{key}={text}" for key, text in self.settings)


@dataclass(frozen=True)
class Choice:
    """What was chosen for one variant.

    Attributes:
        row: the variant's other settings in which its runs differ: each combination has a choice of its own.
        task: where each task of a single-task variant has a choice of its own.
        options: in the order of the sweep file.
        chosen: None: no setting has a number.
        tied: other settings with the same number.
    """

    variant: str
    row: Settings
    task: str | None
    number: Number
    options: tuple[ScoredSetting, ...]
    chosen: ScoredSetting | None
    tied: tuple[ScoredSetting, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether a setting was chosen, and no run that has yet to end can change that."""
        return self.chosen is not None and not any(
            gap.is_unconfirmed for option in self.options for gap in option.gaps
        )

    @property
    def label(self) -> str:
        """'adapters rte', 'hyperformer max_steps=100'."""
        rest = [f"{key}={text}" for key, text in self.row]
        return " ".join([self.variant, *rest, *([self.task] if self.task else [])])


def choose(rule: SelectionRule, validations: Sequence[Validation]) -> list[Choice]:
    """Choose a setting for each variant, in the order of the sweep file. `validations`: of all planned runs."""
    groups: dict[Key, dict[Settings, list[Validation]]] = {}
    rows = row_keys(one.run for one in validations)
    for one, (variant, settings) in zip(validations, rows, strict=True):
        rest = tuple(item for item in settings if item[0] not in rule.over)
        mine = tuple(item for item in settings if item[0] in rule.over)
        task = one.run.task if rule.per_task else None
        groups.setdefault((variant, rest, task), {}).setdefault(mine, []).append(one)
    return [_choice(key, rule.number, options) for key, options in groups.items()]


def _choice(key: Key, number: Number, options: Mapping[Settings, Sequence[Validation]]) -> Choice:
    variant, row, task = key
    if task is not None:
        number = Number("task", task)
    columns = _columns(number, [one for members in options.values() for one in members])
    scored = tuple(score_setting(settings, members, number, columns) for settings, members in options.items())
    able = [option for option in scored if option.scores]
    if not able:
        return Choice(variant, row, task, number, scored, None)
    fewest = min(option.planned - len(option.scores) for option in able)
    able = [option for option in able if option.planned - len(option.scores) == fewest]
    best = max(option.mean or 0.0 for option in able)
    chosen, *tied = [option for option in able if best - (option.mean or 0.0) < EQUAL]
    return Choice(variant, row, task, number, scored, chosen, tuple(tied))


def _columns(number: Number, members: Sequence[Validation]) -> Columns:
    """Task -> its metrics in any result: what a seed must have, so that all averages are over the same."""
    if number.kind == "metric":
        return {number.task: [number.metric]}
    tasks = [task for one in members for task in one.run.config.data.tasks]
    found: dict[str, dict[str, None]] = {task: {} for task in tasks if number.task in ("", task)}
    for one in members:
        for task, metrics in (one.metrics or {}).items():
            if task in found:
                found[task] |= dict.fromkeys(metrics)
    return found


def score_setting(
    settings: Settings, members: Sequence[Validation], number: Number, columns: Columns
) -> ScoredSetting:
    """The number of each seed of one setting.

    Args:
        members: the setting's runs, and their results on the split that is meant.
        columns: task -> its metrics: what a seed must have; no others count.
    """
    seeds: dict[int, list[Validation]] = {}
    for one in members:
        if not columns.keys().isdisjoint(one.run.config.data.tasks):
            seeds.setdefault(one.run.config.seed, []).append(one)
    scores, gaps = {}, []
    for seed, parts in seeds.items():
        missing = list(_gaps(parts, columns))
        gaps += missing
        if not missing:
            found = {task: values for one in parts for task, values in (one.metrics or {}).items()}
            scores[seed] = _score(
                number, [[found[task][name] for name in names] for task, names in columns.items()]
            )
    return ScoredSetting(settings, tuple(one.run for one in members), scores, len(seeds), tuple(gaps))


def _gaps(parts: Sequence[Validation], columns: Columns) -> Iterator[Gap]:
    """Why the runs of one seed give no number."""
    trained = {task for one in parts for task in one.run.config.data.tasks}
    for task in [task for task in columns if task not in trained]:
        yield Gap(f"seed {parts[0].run.config.seed}", f"no run trains {task}", is_unconfirmed=False)
    for one in parts:
        name = one.run.name
        if one.metrics is None:
            is_unconfirmed = not (one.diverged or one.left)
            yield Gap(name, "diverged" if one.diverged else one.state, is_unconfirmed)
            continue
        for task in [task for task in columns if task in one.run.config.data.tasks]:
            values = one.metrics.get(task, {})
            lacking = ", ".join(column for column in columns[task] if column not in values)
            invalid = ", ".join(
                column for column in columns[task] if not math.isfinite(values.get(column, 0.0))
            )
            if lacking or not values:
                yield Gap(name, f"no {lacking or 'metric'} of {task} in its result", is_unconfirmed=False)
            if invalid:
                yield Gap(name, f"{task} {invalid} is not finite", is_unconfirmed=False)


def _score(number: Number, values: Sequence[Sequence[float]]) -> float:
    """`values`: of each task, its metrics."""
    if number.kind == "tasks":
        return statistics.fmean(map(statistics.fmean, values))
    return statistics.fmean(value for each in values for value in each)
