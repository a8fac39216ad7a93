"""Whether `select:` of a sweep file makes sense for its runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hyperformer.errors import nearest
from launchers.plan.model_selection.rule import (
    OVER_COLUMNS,
    OVER_TASKS,
    SHORT_METRICS,
    SelectionRule,
    refuse_test,
)
from launchers.plan.plan import Run

if TYPE_CHECKING:
    from hyperformer.data.contents import Contents


def check_rule(
    rule: SelectionRule, runs: Sequence[Run], metrics: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Check a rule against the runs of the plan; yields notes for the user.

    Args:
        metrics: task -> names of its metrics, of each task whose metrics are known.

    Raises:
        ConfigError: `by` names a task that a variant does not train, or a metric that the task does not have.
    """
    task, metric = rule.number.task, rule.number.metric
    trained: dict[str, set[str]] = {}
    for run in runs:
        trained.setdefault(run.config.variant, set()).update(run.config.data.tasks)
    every = sorted(set().union(*trained.values()))
    if task and task not in every:
        refuse_test(rule.place, task)
        known = [OVER_COLUMNS, OVER_TASKS, *every]
        rule.place.fail(f"{task!r} is neither an average nor a task of the sweep{nearest(task, known)}")
    lacking = [variant for variant, tasks in trained.items() if task and task not in tasks]
    if lacking:
        rule.place.fail(
            f"{', '.join(lacking)} does not train {task}; choose by an average, or by a task of all variants"
        )
    if metric and metric not in metrics.get(task, [metric]):
        refuse_test(rule.place, metric)
        known = [SHORT_METRICS.get(name, name) for name in metrics[task]]
        rule.place.fail(f"{task} has no metric {metric!r}{nearest(metric, known)}")
    yield from _no_choice(rule, runs)


def _no_choice(rule: SelectionRule, runs: Sequence[Run]) -> Iterator[str]:
    """A line for each setting that has several values, but never two in runs that are otherwise alike, or only one."""
    for key in rule.over:
        values: dict[object, set[str]] = {}
        for run in runs:
            variant, row = run.row
            rest = tuple(item for item in row if item[0] not in rule.over)
            values.setdefault((variant, rest), set()).add(dict(row).get(key, ""))
        if max(map(len, values.values())) == 1:
            tied = len(set().union(*values.values())) > 1
            why = (
                "only together with another setting, which must be under `over:` too"
                if tied
                else "in no variant"
            )
            yield f"select: {key} has several values {why}; there is nothing to choose"


def task_metrics(runs: Sequence[Run], contents: Contents | None) -> dict[str, list[str]]:
    """Task -> names of its metrics, of the tasks of the runs.

    Args:
        contents: reads the user's own tasks; None: they stay unknown.
    """
    from hyperformer.data.metrics import METRICS
    from hyperformer.data.tasks import TASKS

    found = {}
    for run in runs:
        known = TASKS | contents.user_tasks(run.config.data.task_file) if contents else TASKS
        for name in run.config.data.tasks:
            if name in known:
                found[name] = [column for metric in known[name].metrics for column in METRICS[metric].columns]
    return found
