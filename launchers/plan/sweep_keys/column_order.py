"""`columns:` of a sweep file: in which order its tables show tasks and metrics. It changes no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hyperformer.errors import nearest
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.model_selection.rule import SHORT_METRICS


def read_columns(node: YamlNode | None) -> tuple[YamlNode, ...]:
    """The entries: a task, or a task and a metric as the table names them ('mrpc acc').

    Raises:
        ConfigError: one is not text, or is named twice.
    """
    entries = tuple(node.sequence()) if node is not None else ()
    for number, entry in enumerate(entries):
        if not isinstance(entry.value, str):
            entry.fail(f"must be a task, or a task and a metric, such as mrpc acc, not {entry.value_text()}")
        if entry.value in [other.value for other in entries[:number]]:
            entry.fail(f"{entry.value!r} is named twice")
    return entries


def check_columns(
    entries: Sequence[YamlNode], tasks: Sequence[str], metrics: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """The entries as text. Known tasks that the sweep does not have are not an error: a file below may have them.

    Args:
        tasks: of the sweep's runs.
        metrics: task -> names of its metrics, of each task whose metrics are known.

    Raises:
        ConfigError: there is no such task, or the task has no such metric.
    """
    if not entries:
        return ()
    from hyperformer.data.tasks import TASKS  # numpy: too slow for --help

    for entry in entries:
        task, _, metric = entry.value.partition(" ")
        if task not in {*tasks, *TASKS}:
            entry.fail(f"{task!r} is neither a task of the sweep nor a built-in one{nearest(task, tasks)}")
        if metric and task in metrics:
            known = [SHORT_METRICS.get(name, name) for name in metrics[task]]
            if metric not in known:
                entry.fail(f"{task} has no metric {metric!r}{nearest(metric, known)}")
    return tuple(entry.value for entry in entries)
