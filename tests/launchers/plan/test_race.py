"""`race:` of a sweep file, and which settings move on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hyperformer.errors import ConfigError
from launchers.plan.plan import Plan
from launchers.plan.race.check import cost_text
from launchers.plan.race.promote import TO_THE_END, Entrant, promote
from launchers.plan.sweep_file import read_sweep

SWEEP = """
    base: {{max_steps: 800, eval_steps: 100, warmup_steps: 0}}
    variants: [hyperformer++, adapters]
    tasks: [cola, mrpc]
    grid: {{learning_rate: [1e-3, 3e-4, 1e-4, 3e-5], seed: [1, 2]}}
    {more}
    race: {race}
    """


@pytest.mark.parametrize(
    ("race", "more", "told"),
    [
        ("{over: [learning_rate]}", "", "line 7, race: must say after which steps"),
        ("{rungs: [100]}", "", "line 7, race: must say which settings to choose"),
        ("{over: [learning_rate], rungs: [150]}", "", r"line 7, race.rungs: .*150 is not a multiple of eval_steps"),
        ("{over: [learning_rate], rungs: [100, 800]}", "", "800 is not below max_steps"),
        ("{over: [learning_rate], rungs: [200, 100]}", "", r"race.rungs\[1\]: rungs must increase"),
        ("{over: [learning_rate], rungs: [200, 200]}", "", "rungs must increase"),
        ("{over: [learning_rate], rungs: [1.5]}", "", "must be a number of steps"),
        ("{over: [learning_rate], rungs: [true]}", "", "must be a number of steps"),
        ("{over: [learning_rate], rungs: []}", "", "is an empty list"),
        ("{over: [learning_rate], rungs: 100}", "", "must be a list"),
        *[
            (f"{{over: [learning_rate], rungs: [100], keep: {keep}}}", "", "race.keep: must be a share between 0 and 1")
            for keep in ("0", "1", "1.5", "-0.5", "half", "true", "[0.5]", ".nan")
        ],
        ("{over: [reduction_factor], rungs: [100]}", "", "reduction_factor has one value only"),
        ("{over: [seed], rungs: [100]}", "", "the best seed is luck"),
        ("{over: [max_steps], rungs: [100]}", "", "max_steps cannot race"),
        ("{over: [learning_rate], rungs: [100], by: cola test}", "", "chosen on validation only"),
        ("{over: [learning_rate], rungs: [100], test: true}", "", "chosen on validation only"),
        ("{over: [learning_rate], rungs: [100], by: mrcp}", "", "did you mean 'mrpc'"),
        ("{over: [learning_rate], rung: [100]}", "", "did you mean 'rungs'"),
        ("{over: [learning_rate], rungs: [100]}", "zip: {early_stop: [2, 3]}", "has early_stop, which ends runs"),
        ("{over: [learning_rate], rungs: [100]}", "config: c.json", "do_eval: false"),
        ("{over: [learning_rate], rungs: [100]}", "overrides: {adapters: {num_train_epochs: 2.0}}", "write max_steps"),
        ("{over: [learning_rate], rungs: [100]}", "after: 17", "cannot race"),
        ("{over: [learning_rate], rungs: [100], by: mrpc}", "select: {over: [learning_rate]}", "must choose alike"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(
    plan_of: Callable[..., Plan], race: str, more: str, told: str
) -> None:
    text = SWEEP.format(race=race, more=more)
    if more.startswith("config"):
        text = text.replace("    config: c.json\n", "").replace(
            "warmup_steps: 0", "warmup_steps: 0, do_eval: false"
        )
    if "num_train_epochs" in more:
        text = text.replace("max_steps: 800, ", "")
    with pytest.raises(ConfigError, match=told):
        plan_of(text)


def test_a_stage_cannot_race(write_sweep: Callable[..., Path]) -> None:
    path = write_sweep(SWEEP.format(race="{over: [learning_rate], rungs: [100]}", more="stages: {a: {}}"))
    with pytest.raises(ConfigError, match="race: a sweep with `stages:` or `after:` cannot race"):
        read_sweep(path, "a")


def test_what_a_race_costs_and_chooses(plan_of: Callable[[str], Plan]) -> None:
    plan = plan_of(SWEEP.format(race="{rungs: [100, 200, 400]}", more="select: {over: [learning_rate]}"))
    assert plan.race and plan.race.choice == plan.select and plan.race.keep == 0.5
    # Two variants, one of which has a run per task: 8 + 16 runs.
    told = "24 to step 100, 12 to step 200, 6 to step 400, 6 to the end; 7,200 of the 19,200 steps"
    assert told in cost_text(plan.race, plan.runs) and any(told in note for note in plan.notes)
    alone = plan_of(SWEEP.format(race="{over: [learning_rate], rungs: [100], keep: 0.25}", more=""))
    assert alone.race and alone.select == alone.race.choice and alone.race.keep == 0.25
    without = plan_of(SWEEP.format(race="", more="").replace("race:", ""))
    assert [run.signature for run in without.runs] == [run.signature for run in plan.runs]


def field(*scores: Mapping[int, float] | None, rungs: tuple[int, ...] = (1, 2)) -> list[Entrant]:
    """Settings that have been judged there; None: it trains to the first rung."""
    return [Entrant(each or {}, goal=max(each) if each else rungs[0]) for each in scores]


def test_the_better_half_moves_on() -> None:
    at_first = field({1: 50.0}, {1: 70.0}, {1: 60.0}, {1: 40.0})
    assert promote(at_first, (1, 2), 0.5) == {1: 2, 2: 2}
    assert promote(at_first, (1,), 0.5) == {1: TO_THE_END, 2: TO_THE_END}
    assert promote(at_first, (1, 2), 0.9) == {0: 2, 1: 2, 2: 2}
    # At least one, where nobody can come any more.
    assert promote(at_first, (1, 2), 0.1) == {1: 2}
    assert promote(field({1: 50.0}), (1,), 0.5) == {0: TO_THE_END}


def test_nobody_waits_for_all() -> None:
    trains = Entrant({}, goal=1)
    assert promote([*field({1: 50.0}), trains], (1, 2), 0.5) == {}
    assert promote([*field({1: 50.0}, {1: 70.0}), trains, trains], (1, 2), 0.5) == {1: 2}
    # The third is better than the one that moved on before it.
    moved = Entrant({1: 50.0}, goal=2)
    assert promote([moved, *field({1: 40.0}, {1: 70.0}), trains], (1, 2), 0.5) == {2: 2}
    assert promote([moved, *field({1: 40.0}, {1: 70.0}, {1: 60.0})], (1, 2), 0.5) == {2: 2, 3: 2}
    # No machine would be used better while others wait for a place.
    assert promote([*field({1: 50.0}, {1: 70.0}), Entrant({}, 1, waits=True)], (1, 2), 0.5) == {}


def test_a_later_rung_is_closed_when_those_before_it_are() -> None:
    first, second = Entrant({1: 70.0, 2: 70.0}, goal=2), Entrant({1: 60.0}, goal=2)
    rest = field({1: 50.0}, {1: 40.0})
    assert promote([first, second, *rest], (1, 2), 0.5) == {}  # the second may be better at 2
    done = Entrant({1: 60.0, 2: 80.0}, goal=2)
    assert promote([first, done, *rest], (1, 2), 0.5) == {1: TO_THE_END}
    assert promote([first, done, Entrant({}, 1)], (1, 2), 0.5) == {1: TO_THE_END}
    assert promote([first, Entrant({}, 1)], (1, 2), 0.5) == {}  # one alone, and another may come
    winner = Entrant({1: 60.0, 2: 80.0}, goal=TO_THE_END)
    assert promote([first, winner, *rest], (1, 2), 0.5) == {}


def test_settings_that_are_out_take_no_place() -> None:
    lost = Entrant({1: 90.0}, goal=1, out="failed")
    assert promote([lost, *field({1: 50.0}, {1: 70.0})], (1, 2), 0.5) == {2: 2}
    # A setting that failed after it had moved on makes room for the next one.
    gone = Entrant({1: 90.0}, goal=2, out="failed")
    assert promote([gone, *field({1: 50.0}, {1: 70.0})], (1, 2), 0.5) == {2: 2}
    assert promote([lost, gone], (1, 2), 0.5) == {}
    assert promote([Entrant({}, 1, waits=True, out="failed"), *field({1: 5.0}, {1: 7.0})], (1, 2), 0.5) == {
        2: 2
    }


def test_of_equal_settings_the_first_moves_on() -> None:
    third = 0.1 + 0.2
    assert promote(field({1: 0.3}, {1: third}), (1, 2), 0.5) == {0: 2}
    assert promote(field({1: third}, {1: 0.3}), (1, 2), 0.5) == {0: 2}
    # 0.29 * 100 is a little less than 29.
    many = field(*({1: float(number)} for number in range(100)))
    assert len(promote(many, (1, 2), 0.29)) == 29
