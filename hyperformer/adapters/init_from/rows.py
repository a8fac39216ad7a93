"""Which row of a trained run's adapters, or task embeddings, each row of a new run starts from. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.schema import AdapterConfig


@dataclass(frozen=True)
class Rows:
    """The rows of a model's adapters or task embeddings.

    Attributes:
        tasks: of the model.
        names: for each task, the name of its row; tasks may share one.
    """

    tasks: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, config: AdapterConfig, tasks: tuple[str, ...]) -> Rows:
        """Those of a model of these tasks."""
        return cls(tasks, config.task_embeddings or config.adapters or tasks)

    @property
    def distinct(self) -> list[str]:
        """The name of each row."""
        return list(dict.fromkeys(self.names))

    def find(self, name: str) -> int | None:
        """The row of that task, or of that name; None: there is none.

        Raises:
            ConfigError: it names a task, and the row of another task.
        """
        of_task = self.names[self.tasks.index(name)] if name in self.tasks else name
        if of_task != name and name in self.names:
            raise ConfigError(
                f"init_tasks: {name} is a task of the run to start from, and the name of another task's row there"
            )
        return self.distinct.index(of_task) if of_task in self.names else None


def rows_to_start_from(
    ours: Rows, theirs: Rows, init_tasks: Mapping[str, str | None] | None
) -> list[int | None]:
    """For each of our rows the number of theirs; None: it starts from new weights.

    Args:
        init_tasks: the setting of that name.

    Raises:
        ConfigError: a task has no row to start from, or tasks that share a row start from different ones.
    """
    return [_row(name, ours, theirs, init_tasks or {}) for name in ours.distinct]


def _row(name: str, ours: Rows, theirs: Rows, init_tasks: Mapping[str, str | None]) -> int | None:
    members = [task for task, row in zip(ours.tasks, ours.names, strict=True) if row == name]
    wanted = {task: init_tasks.get(task, name) for task in members}
    found = {task: _find(task, source, theirs) for task, source in wanted.items()}
    if len(set(found.values())) > 1:
        text = ", ".join(f"{task} from {source}" for task, source in wanted.items())
        raise ConfigError(
            f"init_tasks: these tasks share {name!r}, and would start from different ones: {text}"
        )
    return next(iter(found.values()))


def _find(task: str, source: str | None, theirs: Rows) -> int | None:
    if source is None:
        return None
    row = theirs.find(source)
    if row is None:
        known: Sequence[str] = [*theirs.tasks, *theirs.names]
        raise ConfigError(
            f"init_tasks: the run to start from has no task {source!r}{nearest(source, dict.fromkeys(known))}; say "
            f"which one {task} starts from, such as init_tasks={{{task}: {theirs.tasks[0]}}}, or null for new weights"
        )
    return row
