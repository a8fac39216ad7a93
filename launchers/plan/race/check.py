"""Whether `race:` of a sweep file makes sense for its runs, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from launchers.plan.model_selection.check import check_rule
from launchers.plan.model_selection.choose import Validation, choose
from launchers.plan.model_selection.rule import SelectionRule
from launchers.plan.plan import Run
from launchers.plan.race.promote import places
from launchers.plan.race.rule import RaceRule


def check_race(rule: RaceRule, runs: Sequence[Run], metrics: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Check a race against the runs of the plan; yields notes for the user, with what it costs.

    Args:
        metrics: as :func:`launchers.plan.model_selection.check.check_rule` takes it.

    Raises:
        ConfigError: a run cannot be judged at a rung, or nothing races.
    """
    swept = {key for run in runs for key, _ in run.row[1]}
    for key in rule.choice.over:
        if key not in swept:
            rule.choice.place.fail(f"{key} has one value only, in every variant: nothing can race over it")
    for run in runs:
        _check_run(rule, run)
    yield from check_rule(rule.choice, runs, metrics)
    yield cost_text(rule, runs)


def _check_run(rule: RaceRule, run: Run) -> None:
    training, place = run.config.training, rule.place
    if training.num_train_epochs is not None:
        place.fail(f"{run.name} has num_train_epochs, so its steps are not known before; write max_steps")
    if training.early_stop is not None:
        place.fail(f"{run.name} has early_stop, which ends runs as the race does: use one of the two")
    if not run.config.validates:
        place.fail(f"{run.name} has do_eval: false, so that there is no validation to judge it by")
    for rung in rule.rungs:
        if rung % training.eval_steps:
            place.fail(
                f"settings are judged right after a validation, and {rung} is not a multiple of eval_steps "
                f"({training.eval_steps} of {run.name})"
            )
        if rung >= training.max_steps:
            place.fail(
                f"{rung} is not below max_steps ({training.max_steps} of {run.name}): nothing is left to race for"
            )


def fields(choice: SelectionRule, runs: Sequence[Run]) -> list[list[list[Run]]]:
    """Those that race with each other: a list of settings per field, and of each setting its runs."""
    choices = choose(choice, [Validation(run, None) for run in runs])
    return [[list(option.runs) for option in one.options] for one in choices]


def cost_text(rule: RaceRule, runs: Sequence[Run]) -> str:
    """How many runs there are at each rung, and the steps in all beside those of the full grid."""
    steps, counts = 0, [0] * (len(rule.rungs) + 1)
    for field in fields(rule.choice, runs):
        number, before = len(field), 0
        seeds = sum(map(len, field)) / len(field)  # all seeds of a setting move on together
        for index, rung in enumerate((*rule.rungs, field[0][0].config.training.max_steps)):
            counts[index] += round(number * seeds)
            steps += round(number * seeds) * (rung - before)
            number, before = places(rule.keep, number, is_closed=True), rung
    full = sum(run.config.training.max_steps for run in runs)
    told = ", ".join(f"{number} to step {rung:,}" for number, rung in zip(counts, rule.rungs, strict=False))
    return (
        f"race: {told}, {counts[-1]} to the end; {steps:,} of the {full:,} steps of the full grid "
        f"({100 * steps / full:.0f}%), and a few more where settings reach a rung at different times"
    )
