"""A sweep file -> every combination of settings that it means, before any is dropped or merged."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.build import init_tasks_of, overlay
from hyperformer.settings.config_files import read_config_file
from hyperformer.settings.values import settings
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.sweep_file import SweepFile
from launchers.plan.sweep_keys.setting_values import is_axis
from launchers.plan.sweep_keys.variants import Variant, config_file

Values = dict[str, Any]
Locations = dict[str, YamlNode]
AxisValue = dict[str, YamlNode]

MOST_RUNS = 100_000  # of a variant; more is a slip of the pen
ADAPTER_SETTINGS = frozenset(key for key, entry in settings().items() if entry.section == "adapter")


@dataclass(frozen=True)
class Candidate:
    """One combination.

    Attributes:
        values: flat settings.
        locations: where the sweep file sets them; those of the config file are not among them.
        axes: settings of which the variant has several values.
        like: the first combination that differs in the seed alone; None: this is it.
    """

    variant: Variant
    values: Values
    locations: Locations
    axes: tuple[str, ...]
    like: Candidate | None = None

    @property
    def setting(self) -> int:
        """The same for combinations that differ in the seed alone."""
        return id(self.like or self)


def candidates(file: SweepFile, variant: Variant) -> Iterator[Candidate]:
    """Every combination of one variant, a task at a time where the variant trains so.

    A sweep has most settings with several seeds: what does not depend on the seed is worked out once.
    """
    values = read_config_file(variant.config_file)
    if isinstance(variant.location.value, dict):
        values["variant"] = variant.name  # the label that the sweep file gives it
    values.setdefault("variant", variant.name)
    locations: Locations = {}
    if file.config is not None:
        values = overlay(values, _shared_config(file.config))
    overrides = file.overrides.get(variant.name, {})
    fixed = {key: node for key, node in overrides.items() if not is_axis(key, node)}
    for layer in (file.base, {"tasks": file.tasks} if file.tasks else {}, fixed):
        values = _on_top(values, layer)
        locations |= layer
    if not values.get("tasks"):
        variant.location.fail(f"{variant.name} has no tasks; name tasks under `tasks:`")
    axes = _axes(file, overrides)
    count = math.prod(len(axis) for axis in axes)
    if count > MOST_RUNS:
        variant.location.fail(
            f"{variant.name} would be {count:,} runs, more than {MOST_RUNS:,}; give fewer values"
        )
    names = tuple(dict.fromkeys(key for axis in axes for key in axis[0]))
    first: dict[tuple[int, ...], list[Candidate]] = {}
    for choices in itertools.product(*axes):
        seed = next((choice for choice in choices if choice.keys() == {"seed"}), {})
        others = tuple(id(choice) for choice in choices if choice is not seed)
        if others in first:
            value = _on_top({}, seed)
            for one in first[others]:
                yield Candidate(variant, one.values | value, one.locations | seed, names, one)
            continue
        chosen = {key: node for choice in choices for key, node in choice.items()}
        flat = _on_top(values, chosen)
        first[others] = [Candidate(variant, one, locations | chosen, names) for one in _single_tasks(flat)]
        yield from first[others]


def _on_top(values: Values, layer: Locations) -> Values:
    """`values` with what the sweep file says in one place on top."""
    try:
        return overlay(values, {key: settings()[key].value_of(node) for key, node in layer.items()})
    except ConfigError as error:
        layer[str(error).split(" ", 1)[0]].fail(str(error))


def _shared_config(node: YamlNode) -> Values:
    """Settings of the `config:` file that stands under all variants."""
    values = read_config_file(config_file(node))
    values.pop("output_dir", None)
    method = [key for key in values if key in ("variant", "single_task") or key in ADAPTER_SETTINGS]
    if method:
        node.fail(
            f"{node.value} says which method to train ({', '.join(method)}), and so do the variants; "
            "keep such settings out of it, or name it under `variants:`"
        )
    return values


def _axes(file: SweepFile, overrides: dict[str, YamlNode]) -> list[list[AxisValue]]:
    """What is multiplied out: an axis is a list of choices, a choice sets one setting or several tied ones.

    An override takes the place of the variant's axis of that name.
    """
    axes: list[list[AxisValue]] = []
    tied = {key: node for key, node in file.zip.items() if key not in overrides}
    if tied:
        length = len(next(iter(tied.values())).value)
        axes.append([{key: node.value[index] for key, node in tied.items()} for index in range(length)])
    lists = {key: node for key, node in file.grid.items() if key not in overrides}
    for key, node in overrides.items():
        if is_axis(key, node):
            if key in file.zip:
                node.fail(f"{key} is tied to others under `zip:`; an override can give it one value")
            lists[key] = node
    axes += [[{key: item} for item in node.value] for key, node in lists.items()]
    return axes


def _single_tasks(values: Values) -> Iterator[Values]:
    """One copy per task if the variant trains its tasks one at a time, else the values as they are."""
    tasks = values["tasks"]
    if values.get("single_task") is not True or not isinstance(tasks, list):
        yield _own_starts(values)
        return
    for index, task in enumerate(tasks):
        one = _own_starts(values | {"tasks": [task]})
        for key in ("adapters", "task_embeddings"):  # a name for each task
            names = one.get(key)
            if isinstance(names, list) and len(names) == len(tasks):
                one[key] = [names[index]]
        yield one


def _own_starts(values: Values) -> Values:
    """With the entries of `init_tasks` for the run's own tasks: one map in a sweep file serves runs of other tasks."""
    starts, tasks = values.get("init_tasks"), values["tasks"]
    if not isinstance(starts, dict) or not isinstance(tasks, list):
        return values
    return values | {"init_tasks": init_tasks_of(starts, tasks)}
