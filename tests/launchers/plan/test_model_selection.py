"""`select:` of a sweep file, and the choice on validation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from hyperformer.errors import ConfigError
from launchers.plan.model_selection.choose import Choice, Validation, choose
from launchers.plan.plan import Plan, Run

SWEEP = """
    variants: [hyperformer++, adapters]
    tasks: [cola, mrpc]
    grid: {{learning_rate: [1e-3, 3e-4], seed: [1, 2]}}
    select: {select}
    """


@pytest.mark.parametrize(
    ("select", "told"),
    [
        ("{over: [learning_rat]}", r"line 5, select.over\[0\]: .*did you mean 'learning_rate'"),
        ("{overr: [learning_rate]}", "line 5, select.overr: .*did you mean 'over'"),
        ("{over: [learning_rate], by: mrcp}", "line 5, select.by: .*did you mean 'mrpc'"),
        ("{over: [learning_rate], by: mrpc f2}", "line 5, select.by: mrpc has no metric 'f2'"),
        ("{over: [learning_rate], by: average_over_task}", "did you mean 'average_over_tasks'"),
        ("{over: [learning_rate], by: ' '}", "line 5, select.by: must be average_over_columns"),
        ("{by: mrpc}", "must say which settings"),
        ("", "must say which settings"),
        ("[learning_rate]", "must be a mapping"),
        ("{over: learning_rate}", "must be a list"),
        ("{over: []}", "is an empty list"),
        ("{over: [learning_rate, learning_rate]}", "given twice"),
        ("{over: [seed]}", "the best seed is luck"),
        ("{over: [tasks]}", "cannot be compared"),
        ("{over: [n_val]}", "numbers on other rows cannot be compared"),
        ("{over: [learning_rate], per_task: 1}", "must be true or false"),
        ("{over: [learning_rate], by: cola, per_task: true}", "leave one of them out"),
        *[
            (f"{{over: [learning_rate], {asked}}}", "chosen on validation only")
            for asked in ("by: test", "by: test_average", "by: cola test", "by: {test: cola}", "split: test")
        ],
        ("{over: [test_acc]}", "chosen on validation only"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(
    plan_of: Callable[[str], Plan], select: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        plan_of(SWEEP.format(select=select))


def test_a_task_that_a_variant_does_not_train_chooses_nothing(plan_of: Callable[[str], Plan]) -> None:
    text = SWEEP.format(
        select="{over: [learning_rate], by: mrpc}\n    overrides: {adapters: {tasks: [[cola]]}}"
    )
    with pytest.raises(ConfigError, match="select.by: adapters does not train mrpc"):
        plan_of(text)


def test_settings_without_a_choice_are_noted(plan_of: Callable[[str], Plan]) -> None:
    text = "{{variants: [finetune], tasks: [cola, mrpc], {more}}}"
    plan = plan_of(text.format(more="select: {over: [learning_rate]}"))
    assert plan.notes == (
        "select: learning_rate has several values in no variant; there is nothing to choose",
    )
    tied = "zip: {learning_rate: [1e-3, 3e-4], warmup_steps: [1, 2]}, select: {over: [learning_rate]}"
    assert "must be under `over:` too" in plan_of(text.format(more=tied)).notes[0]
    assert not plan_of(
        text.format(more=tied.replace("[learning_rate]}", "[learning_rate, warmup_steps]}"))
    ).notes


Scores = Callable[[Run], float | None]


def choices_of(plan: Plan, cola: Scores, state: str = "failed") -> list[Choice]:
    """Validation cola by the function (None: no result), mrpc always f1 80 and acc 60."""
    assert plan.select is not None
    validations = []
    for run in plan.runs:
        value = cola(run)
        metrics = {"cola": {"mcc": value or 0.0}, "mrpc": {"f1": 80.0, "acc": 60.0}}
        mine = {task: metrics[task] for task in run.config.data.tasks}
        validations.append(Validation(run, None if value is None else mine, state, state == "diverged"))
    return choose(plan.select, validations)


def rate(run: Run) -> float:
    return run.config.training.learning_rate


@pytest.mark.parametrize(
    ("by", "mean"),
    [("average_over_columns", (50 + 80 + 60) / 3), ("average_over_tasks", (50 + 70) / 2), ("cola", 50.0)],
)
def test_seeds_are_averaged_and_the_best_mean_is_chosen(
    plan_of: Callable[[str], Plan], by: str, mean: float
) -> None:
    """Seed 1 with 1e-3 is the best of all runs, and its setting is not."""
    plan = plan_of(SWEEP.format(select=f"{{over: [learning_rate], by: {by}}}"))
    table = {(1e-3, 1): 70.0, (1e-3, 2): 20.0, (3e-4, 1): 49.0, (3e-4, 2): 51.0}
    together, single = choices_of(plan, lambda run: table[rate(run), run.config.seed])
    assert (together.label, single.label) == ("hyperformer++", "adapters")
    for choice in (together, single):
        assert choice.chosen is not None and choice.chosen.label == "learning_rate=0.0003"
        assert choice.chosen.mean == pytest.approx(mean) and choice.is_final and not choice.tied
        assert {run.config.seed for run in choice.chosen.runs} == {1, 2}
    assert len(together.chosen.runs) == 2 and len(single.chosen.runs) == 4


def test_each_task_of_a_single_task_variant_has_a_choice_of_its_own_if_asked(
    plan_of: Callable[[str], Plan],
) -> None:
    plan = plan_of(SWEEP.format(select="{over: [learning_rate], per_task: true}"))
    _, cola, mrpc = choices_of(plan, lambda run: -rate(run))
    assert (cola.label, cola.number.name) == ("adapters cola", "validation cola")
    assert cola.chosen is not None and cola.chosen.label == "learning_rate=0.0003"
    # Both settings of mrpc are alike: a tie, and the first is chosen.
    assert mrpc.chosen is not None and mrpc.chosen.label == "learning_rate=0.001"
    assert [option.label for option in mrpc.tied] == ["learning_rate=0.0003"]


def test_settings_that_are_not_chosen_keep_rows_of_their_own(plan_of: Callable[[str], Plan]) -> None:
    plan = plan_of(
        "{variants: [finetune], tasks: [cola, mrpc], select: {over: [learning_rate]},"
        " grid: {max_steps: [8, 9], learning_rate: [1e-3, 3e-4]}}"
    )
    found = choices_of(plan, lambda run: rate(run) * (1 if run.config.training.max_steps == 8 else -1))
    told = [(one.label, one.chosen.label if one.chosen else None) for one in found]
    assert told == [
        ("finetune max_steps=8", "learning_rate=0.001"), ("finetune max_steps=9", "learning_rate=0.0003"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "state", "told", "is_final"),
    [
        (None, "failed", "hyperformer++-lr0.001-seed2: failed", False),
        (None, "missing", "hyperformer++-lr0.001-seed2: missing", False),
        (None, "diverged", "hyperformer++-lr0.001-seed2: diverged", True),
        (math.nan, "done", "hyperformer++-lr0.001-seed2: cola mcc is not finite", True),
        (math.inf, "done", "hyperformer++-lr0.001-seed2: cola mcc is not finite", True),
    ],
)
def test_a_setting_that_lacks_a_seed_comes_after_one_that_has_all(
    plan_of: Callable[[str], Plan], value: float | None, state: str, told: str, is_final: bool
) -> None:
    plan = plan_of(SWEEP.format(select="{over: [learning_rate]}"))

    def score(run: Run) -> float | None:
        return value if (rate(run), run.config.seed) == (1e-3, 2) else 90 if rate(run) == 1e-3 else 10.0

    choice = choices_of(plan, score, state)[0]
    assert choice.chosen is not None and choice.chosen.label == "learning_rate=0.0003"
    assert [gap.text for gap in choice.options[0].gaps] == [told] and choice.is_final is is_final


def test_no_result_at_all(plan_of: Callable[[str], Plan]) -> None:
    choice = choices_of(plan_of(SWEEP.format(select="{over: [learning_rate]}")), lambda run: None)[0]
    assert choice.chosen is None and not choice.is_final


def test_a_result_that_lacks_a_metric_is_not_averaged_over_the_others(plan_of: Callable[[str], Plan]) -> None:
    plan = plan_of(SWEEP.format(select="{over: [learning_rate]}"))
    assert plan.select is not None
    whole = {"cola": {"mcc": 1.0}, "mrpc": {"f1": 2.0, "acc": 3.0}}
    parts = [
        Validation(run, whole if rate(run) == 3e-4 else {"cola": {"mcc": 99.0}}) for run in plan.runs[:4]
    ]
    (choice,) = choose(plan.select, parts)
    assert choice.chosen is not None and choice.chosen.mean == 2.0
    assert choice.options[0].gaps[0].text == "hyperformer++-lr0.001-seed1: no f1, acc of mrpc in its result"
