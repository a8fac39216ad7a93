"""How tasks are mixed, in a sweep file: single-task runs have nothing to mix."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hyperformer.errors import ConfigError
from launchers.plan.plan import Plan

HEAD = """
    variants: [adapters_dagger, adapters]
    tasks: [rte, cola]
    """


def test_a_grid_of_mixings(plan_of: Callable[[str], Plan]) -> None:
    ways = plan_of(HEAD + "grid: {mixing: [temperature, equal, proportional]}")
    assert [run.config.data.mixing for run in ways.runs if not run.task] == [
        "temperature",
        "equal",
        "proportional",
    ]
    assert len(ways.runs) == 5 and ways.merged == 4
    assert plan_of(HEAD + "grid: {mixing: [proportional], seed: [1]}").runs[0].signature == (
        plan_of(HEAD + "grid: {temperature: [1], seed: [1]}").runs[0].signature
    )
    weights = "base: {mixing: weights}\n    grid: {task_weights: [{rte: 2, cola: 1}, {rte: 1, cola: 1}]}"
    runs = plan_of(HEAD + weights).runs
    assert [run.config.data.task_weights for run in runs[:2]] == [
        {"rte": 2, "cola": 1},
        {"rte": 1, "cola": 1},
    ]
    assert len({run.name for run in runs}) == len(runs) == 4
    caps = plan_of(HEAD + "grid: {mixing_cap: [null, 5, {rte: 3}]}").runs
    assert [run.config.data.mixing_cap for run in caps if not run.task] == [None, 5, {"rte": 3}]


def test_errors_name_their_line(plan_of: Callable[[str], Plan]) -> None:
    with pytest.raises(ConfigError, match=r"line 4, base.task_weights: .* mnli is none of the run's tasks"):
        plan_of(HEAD + "base: {mixing: weights, task_weights: {rte: 1, cola: 1, mnli: 1}}")
    with pytest.raises(ConfigError, match=r"line 4, .*mixing_cap is 0, but must be greater than 0"):
        plan_of(HEAD + "grid: {mixing_cap: [0]}")
