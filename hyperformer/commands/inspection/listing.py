"""``hyperformer list``: what can be named in configs and sweep files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from hyperformer.settings.config_files import CONFIGS, load_config

KINDS = ("variants", "tasks", "metrics", "configs")


def lines(kind: str, task_file: Path | None = None) -> Iterator[str]:
    """A line for each thing of a kind.

    Args:
        task_file: whose tasks come first.

    Raises:
        ConfigError: as :func:`load_user_tasks`.
    """
    rows = {"variants": _variants, "metrics": _metrics, "configs": _configs}
    table = list(_tasks(task_file) if kind == "tasks" else rows[kind]())
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _variants() -> Iterator[tuple[str, ...]]:
    yield "variant", "adapter", "a run trains", "T5 itself"
    for name in CONFIGS.names():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = load_config(name)
        model = config.model
        trained = "trains" if config.adapter.adapter == "none" else "is frozen"
        if trained == "is frozen" and model.unfreeze_layer_norms:
            trained = "is frozen but for its layer norms"
        yield (
            config.variant,
            config.adapter.adapter,
            "one task" if config.single_task else "all tasks",
            trained,
        )


def _configs() -> Iterator[tuple[str, ...]]:
    yield "config", "file"
    for name, path in CONFIGS.names().items():
        yield name, str(path)


def _tasks(task_file: Path | None) -> Iterator[tuple[str, ...]]:
    from hyperformer.data.tasks import TASKS, load_user_tasks
    from hyperformer.data.toy import GENERATORS

    yield "task", "metrics", "answers", "rows"
    own = load_user_tasks(task_file) if task_file else {}
    for task in (own | {name: task for name, task in TASKS.items() if name not in own}).values():
        labels = task.labels or ()
        answers = f"{labels[0]} to {labels[-1]}" if task.rounded else ", ".join(labels) or "free text"
        where = task.file or (f"{task.hub.path} {task.hub.name or ''}".strip() if task.hub else "data_dir")
        where = "built in" if task.name in GENERATORS and task.name not in own else where
        yield task.name, ", ".join(task.metrics), answers, where


def _metrics() -> Iterator[tuple[str, ...]]:
    from hyperformer.data.metrics import METRICS

    yield "metric", "columns", "labels", "answers", "what it is"
    needs = {"any": "any", "some": "some", "two": "two", "binary": "0 and 1"}
    for name, metric in METRICS.items():
        text = (metric.compute.__doc__ or "").strip().splitlines()[0]
        answers = ", ".join(metric.answers) + (f"; needs {metric.needs}" if metric.needs else "")
        yield name, ", ".join(metric.columns), needs[metric.labels], answers, text
