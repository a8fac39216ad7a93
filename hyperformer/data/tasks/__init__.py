"""All tasks: the built-in table, and the user's own from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping

from hyperformer.data.tasks.table import ROWS
from hyperformer.data.tasks.task import SPLITS, Alias, Hub, Task, answer_length
from hyperformer.data.tasks.user_tasks import load_user_tasks
from hyperformer.errors import ConfigError, nearest

__all__ = ["SPLITS", "TASKS", "Alias", "Hub", "Task", "answer_length", "get_task", "load_user_tasks"]

TASKS: dict[str, Task] = {task.name: task for task in ROWS}
"""Every built-in task by name."""


def get_task(name: str, user_tasks: Mapping[str, Task] | None = None) -> Task:
    """The task of that name. The user's own tasks take precedence.

    Args:
        user_tasks: what :func:`load_user_tasks` read.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    known = TASKS | dict(user_tasks or {})
    if name not in known:
        raise ConfigError(f"There is no task {name!r}{nearest(name, known)}")
    return known[name]
