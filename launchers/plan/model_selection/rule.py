"""`select:` of a sweep file: which settings are chosen, and by which number of the validation set.

========  ==========================================================================
over      settings to choose, such as [learning_rate, reduction_factor]
by        the number: average_over_columns (default), average_over_tasks, a task (the mean of its metrics), or a
          task and a metric as the table names them: "mrpc f1"
per_task  true: each task of a single-task variant gets the setting that is best on that task
========  ==========================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hyperformer.errors import nearest
from hyperformer.settings.values import settings
from hyperformer.settings.yaml_source import YamlNode

KEYS = ("over", "by", "per_task")
OVER_COLUMNS, OVER_TASKS = "average_over_columns", "average_over_tasks"
SHORT_METRICS = {"pearson_corrcoef": "pearson", "spearman_corrcoef": "spearman"}
"""How tables name metrics with long names."""
_LONG_METRICS = {short: name for name, short in SHORT_METRICS.items()}
_NOT_TEST = (
    "settings are chosen on validation only: the test result of a setting that was chosen by it says nothing about "
    f"new data any more. Name a validation number instead: {OVER_COLUMNS}, {OVER_TASKS}, a task, or a task and a metric"
)
_NEVER_CHOSEN = {
    "seed": "seeds are averaged and never chosen: the best seed is luck; leave it out",
    "tasks": "results on other tasks cannot be compared; leave it out (`per_task: true` chooses for each task)",
    "variant": "a setting is chosen for each variant, and the table compares the variants; leave it out",
    "output_dir": "it changes no result; leave it out",
    **dict.fromkeys(
        ("n_val", "n_test", "reference_splits"),
        "it decides which rows settings are judged by, and numbers on other rows cannot be compared; leave it out",
    ),
}


@dataclass(frozen=True)
class Number:
    """The number that settings are compared by, in percent; higher is better.

    Attributes:
        kind: 'columns' and 'tasks': an average over these; 'task': the mean of one task's metrics; 'metric': one.
    """

    kind: Literal["columns", "tasks", "task", "metric"] = "columns"
    task: str = ""
    metric: str = ""

    @property
    def name(self) -> str:
        """In words, as reports say it."""
        if self.kind == "metric":
            return f"validation {self.task} {SHORT_METRICS.get(self.metric, self.metric)}"
        if self.kind == "task":
            return f"validation {self.task}"
        return f"validation average over {'metric columns' if self.kind == 'columns' else 'tasks'}"


@dataclass(frozen=True)
class SelectionRule:
    """What `select:` says.

    Attributes:
        over: the settings to choose.
        place: where `by` is, or `select:` itself.
    """

    over: tuple[str, ...]
    number: Number
    per_task: bool
    place: YamlNode


def read_rule(node: YamlNode) -> SelectionRule:
    """Read `select:` and check it as far as that goes without the runs (:func:`.check.check_rule` does the rest).

    Raises:
        ConfigError: with file, line and key.
    """
    entries: dict[str, YamlNode] = node.mapping()
    for key, entry in entries.items():
        if key not in KEYS:
            refuse_test(entry, f"{key} {entry.value_text()}")
            entry.fail(f"unknown key {key!r}{nearest(key, KEYS)}")
    if "over" not in entries:
        node.fail("must say which settings to choose, such as `over: [learning_rate]`")
    by, per_task = entries.get("by"), entries.get("per_task")
    if per_task is not None and not isinstance(per_task.value, bool):
        per_task.fail(f"must be true or false, not {per_task.value_text()}")
    number = _number(by) if by else Number()
    is_per_task = per_task is not None and per_task.value
    if by is not None and is_per_task and number.task:
        by.fail(
            f"is {by.value!r}, but `per_task: true` chooses each task's setting by that task; leave one of them out"
        )
    return SelectionRule(_over(entries["over"]), number, is_per_task, by or node)


def _number(node: YamlNode) -> Number:
    text = node.value
    if not isinstance(text, str) or not text.strip():
        refuse_test(node, node.value_text())
        node.fail(
            f"must be {OVER_COLUMNS}, {OVER_TASKS}, a task, or a task and a metric, not {node.value_text()}"
        )
    if text in (OVER_COLUMNS, OVER_TASKS):
        return Number("columns" if text == OVER_COLUMNS else "tasks")
    task, _, metric = " ".join(text.split()).partition(" ")
    metric = _LONG_METRICS.get(metric, metric)
    return Number("metric" if metric else "task", task, metric)


def refuse_test(node: YamlNode, text: str) -> None:
    """Explain why test results choose nothing, where a text asks for them."""
    if re.search(r"(?i)(?<![a-z])test(?![a-z])", text):
        node.fail(_NOT_TEST)


def _over(node: YamlNode) -> tuple[str, ...]:
    names: list[str] = []
    for entry in node.sequence():
        name = entry.value
        if not isinstance(name, str):
            entry.fail(f"must be the name of a setting, not {entry.value_text()}")
        if name in _NEVER_CHOSEN:
            entry.fail(_NEVER_CHOSEN[name])
        if name not in settings():
            refuse_test(entry, name)
            entry.fail(f"unknown setting {name!r}{nearest(name, settings())}")
        if name in names:
            entry.fail(f"{name!r} is given twice")
        names.append(name)
    return tuple(names)
