"""A run and a plan: what a sweep file means, as plain frozen data. The names of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.settings.schema import RunConfig
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.resources import Resources

_SHORT = {"reduction_factor": "rf", "learning_rate": "lr", "max_steps": "steps", "temperature": "t"}


@dataclass(frozen=True)
class Run:
    """One training job of the sweep.

    Attributes:
        name: readable, and unique in the sweep.
        differs: (setting, value as text) in which it differs from other runs of its variant, seed last;
            the task of a single-task run is not among them.
        resources: what it asks for: the cluster profile's, and the sweep file's on top.
    """

    name: str
    signature: str
    config: RunConfig
    differs: tuple[tuple[str, str], ...]
    resources: Resources

    @property
    def task(self) -> str | None:
        """The task of a single-task run, None for one that trains its tasks together."""
        return self.config.data.tasks[0] if self.config.single_task else None

    @property
    def row(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What it shares with the runs of its row in the table: all but seed and single task."""
        return self.config.variant, tuple(item for item in self.differs if item[0] != "seed")


@dataclass(frozen=True)
class Plan:
    """A sweep, expanded for one cluster. Made by :func:`launchers.plan.load_plan.make_plan`.

    Attributes:
        profile: the cluster's, whose resources stand under those of the sweep file.
        max_parallel: jobs at once at most, by the sweep file, else by the profile; None: no limit.
        merged: combinations that were equal to another run in all that can change a result.
        excluded: combinations that `exclude` dropped.
        notes: what the user may want to know, a line each.
    """

    name: str
    source: Path
    text: str
    profile: ClusterProfile
    runs: tuple[Run, ...]
    max_parallel: int | None
    merged: int
    excluded: int
    notes: tuple[str, ...]


def value_text(value: Any) -> str:
    """A setting's value as people write it."""
    if isinstance(value, list | tuple):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_name(config: RunConfig, differs: tuple[tuple[str, str], ...]) -> str:
    """'adapters-rte-rf16-seed2': variant, task of a single-task run, settings that differ."""
    parts = [config.variant, *config.data.tasks[:1]] if config.single_task else [config.variant]
    parts += [f"{_SHORT.get(key, key)}{text}"[:60] for key, text in differs]
    # The name becomes a folder's: nothing that a shell or a path would read otherwise.
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", "-".join(parts))[:150].lstrip(".-") or "run"
