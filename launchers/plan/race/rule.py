"""`race:` of a sweep file: settings of a grid train to a rung, and the better part of them trains on.

=====================  =============================================================
over, by, per_task     the settings that race, and the validation number that judges them, as under `select:`, whose
                       they are by default
rungs                  steps after which settings are judged; multiples of eval_steps, below max_steps
keep                   the share that moves on from a rung; default: 0.5
=====================  =============================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hyperformer.errors import nearest
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.model_selection import rule as selection
from launchers.plan.model_selection.rule import SelectionRule, refuse_test

KEYS = (*selection.KEYS, "rungs", "keep")
_KEEP = 0.5
# Settings of which a race cannot compare the values: its rungs are steps of all of them.
_NOT_RACED = {
    "max_steps": "settings race over the same steps; a value for each row of the table is possible under `grid:`",
    "num_train_epochs": "settings race over the same steps; write max_steps",
}


@dataclass(frozen=True)
class RaceRule:
    """What `race:` says.

    Attributes:
        choice: which settings race, and by which number.
        rungs: steps, in order.
        place: of `rungs`.
    """

    choice: SelectionRule
    rungs: tuple[int, ...]
    keep: float
    place: YamlNode


def read_race(node: YamlNode, select: SelectionRule | None) -> RaceRule:
    """Read `race:` and check it as far as that goes without the runs.

    Args:
        select: what `select:` of the same file says.

    Raises:
        ConfigError: with file, line and key.
    """
    entries = node.mapping()
    for key, entry in entries.items():
        if key not in KEYS:
            refuse_test(entry, f"{key} {entry.value_text()}")
            entry.fail(f"unknown key {key!r}{nearest(key, KEYS)}")
    if "rungs" not in entries:
        node.fail("must say after which steps settings are judged, such as `rungs: [100, 200]`")
    choice = _choice(node, select)
    for key in choice.over:
        if key in _NOT_RACED:
            node.fail(f"{key} cannot race: {_NOT_RACED[key]}")
    keep = _keep(entries["keep"]) if "keep" in entries else _KEEP
    return RaceRule(choice, _rungs(entries["rungs"]), keep, entries["rungs"])


def _choice(node: YamlNode, select: SelectionRule | None) -> SelectionRule:
    own = {key: entry for key, entry in node.mapping().items() if key in selection.KEYS}
    if not own and select is not None:
        return select
    choice = selection.read_rule(replace(node, value=own))
    same = select and (choice.over, choice.number, choice.per_task) == (
        select.over,
        select.number,
        select.per_task,
    )
    if select is not None and not same:
        node.fail(
            "and `select:` must choose alike, as settings that the race leaves have no results to choose from: leave "
            "`over`, `by` and `per_task` out under `race:`"
        )
    return choice


def _rungs(node: YamlNode) -> tuple[int, ...]:
    steps: list[int] = []
    for entry in node.sequence():
        if type(entry.value) is not int or entry.value < 1:
            entry.fail(f"must be a number of steps, at least 1, not {entry.value_text()}")
        if steps and entry.value <= steps[-1]:
            entry.fail(f"rungs must increase, but {entry.value} comes after {steps[-1]}")
        steps.append(entry.value)
    return tuple(steps)


def _keep(node: YamlNode) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float) or not 0 < node.value < 1:
        node.fail(
            f"must be a share between 0 and 1, such as 0.5 for the better half, not {node.value_text()}"
        )
    return float(node.value)
