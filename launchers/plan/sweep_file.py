"""A sweep file, read and checked as far as that goes without expanding it.

=========  =========================================================================
extends    another sweep file that this one stands on top of (:mod:`launchers.plan.sweep_keys.extends`)
name       name of the sweep, and of its folder; default: the file's name
config     JSON config file: settings under `base`, or the whole method if no variants
base       settings of every run, over each variant's own config
variants   names of shipped configs, or paths of config files; {LABEL: CONFIG} gives one a label of its own
tasks      tasks of every run; single-task variants get a run for each
grid       setting: list of values; every combination runs
zip        setting: list of values, all of the same length; paired, like Python's zip
overrides  variant: settings of this variant alone; a list gives it values of its own
exclude    list of {setting: value}; runs that match all of one entry are dropped
resources  what a run asks of the cluster, over the profile's; below it `variants: {NAME: {...}}` and
           `runs: {GLOB: {...}}` (names of runs) for some of them, and `max_parallel`
stages     sweeps that follow each other; `after`: what the first waits for (:mod:`launchers.plan.sweep_keys.stages`)
columns    order of the table's columns: tasks, or tasks with a metric; others follow
select     which settings the report chooses, on validation (:mod:`launchers.plan.model_selection.rule`)
race       which settings train on from a step, and which are left there (:mod:`launchers.plan.race.rule`)
renew_report  false: jobs that end do not renew the page of the report; takes precedence over the profile's
=========  =========================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hyperformer.errors import nearest
from hyperformer.settings.shipped import ShippedFiles
from hyperformer.settings.values import settings
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.model_selection.rule import SelectionRule, read_rule
from launchers.plan.race.rule import RaceRule, read_race
from launchers.plan.resources import flag
from launchers.plan.sweep_keys.column_order import read_columns
from launchers.plan.sweep_keys.extends import read_extended
from launchers.plan.sweep_keys.resource_rules import ResourceRules, read_max_parallel, read_rules
from launchers.plan.sweep_keys.setting_values import (
    ELSEWHERE,
    read_base,
    read_exclude,
    read_grid,
    read_overrides,
    read_tasks,
    read_zip,
)
from launchers.plan.sweep_keys.stages import After, of_stage, read_after, stage_names
from launchers.plan.sweep_keys.variants import LABEL, Variant, read_variants

_LAUNCHERS = Path(__file__).parent.parent
# In a clone sweeps/ lies beside launchers/; an installed copy has it inside.
SWEEPS = ShippedFiles(
    "sweep file", ".yaml", (_LAUNCHERS / "sweeps", _LAUNCHERS.parent / "sweeps"), ("sweeps",)
)
KEYS = (
    "extends",
    "name",
    "config",
    "base",
    "variants",
    "tasks",
    "grid",
    "zip",
    "overrides",
    "exclude",
    "resources",
    "columns",
    "select",
    "race",
    "stages",
    "after",
    "renew_report",
)


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says, or one of its stages. Values keep their places, for errors that come later.

    Attributes:
        earlier: the stages before this one.
    """

    name: str
    source: Path
    text: str
    variants: tuple[Variant, ...]
    config: YamlNode | None
    base: dict[str, YamlNode]
    tasks: YamlNode | None
    grid: dict[str, YamlNode]
    zip: dict[str, YamlNode]
    overrides: dict[str, dict[str, YamlNode]]
    exclude: tuple[dict[str, YamlNode], ...]
    resources: ResourceRules
    max_parallel: int | None
    select: SelectionRule | None = None
    earlier: tuple[str, ...] = ()
    renew_report: bool | None = None
    race: RaceRule | None = None
    columns: tuple[YamlNode, ...] = ()


@dataclass(frozen=True)
class Stages:
    """The stages of a sweep file, in order, and what the first of them waits for. An ordinary sweep is a stage ''."""

    name: str
    names: tuple[str, ...]
    after: tuple[After, ...]
    text: str


def read_stages(path: Path) -> Stages:
    """The stages of a sweep file.

    Raises:
        ConfigError: with file, line and key.
    """
    text, root = read_extended(path, SWEEPS)
    name = _name(root.mapping().get("name"), path)
    return Stages(name, stage_names(root) or ("",), read_after(root), text)


def read_sweep(path: Path, stage: str = "") -> SweepFile:
    """Read and check a sweep file, or one of its stages.

    Raises:
        ConfigError: with file, line and key.
    """
    text, root = read_extended(path, SWEEPS)
    names = stage_names(root)
    name = _name(root.mapping().get("name"), path)
    root = of_stage(root, stage)
    top = root.mapping()
    for key, entry in top.items():
        if key not in KEYS:
            is_setting = key in settings() and key not in ELSEWHERE
            hint = " (settings of the runs go under `base:`)" if is_setting else ""
            entry.fail(f"unknown key {key!r}{hint or nearest(key, KEYS)}")
    variants = read_variants(root, top)
    labels = [variant.name for variant in variants]
    earlier = names[: names.index(stage)] if stage else ()
    select = read_rule(top["select"]) if "select" in top else None
    if "race" in top and (names or "after" in root.mapping()):
        top["race"].fail("a sweep with `stages:` or `after:` cannot race; write a sweep file of its own")
    return SweepFile(
        name=f"{name}.{stage}" if stage else name,
        source=path.absolute(),
        text=text,
        variants=variants,
        config=top.get("config") if "variants" in top else None,
        base=read_base(top.get("base"), earlier),
        tasks=read_tasks(top.get("tasks")),
        grid=read_grid(top.get("grid")),
        zip=read_zip(top.get("zip"), top.get("grid")),
        overrides=read_overrides(top.get("overrides"), labels, earlier),
        earlier=earlier,
        exclude=read_exclude(top.get("exclude")),
        resources=read_rules(top.get("resources"), labels),
        max_parallel=read_max_parallel(top.get("resources")),
        select=select,
        race=read_race(top["race"], select) if "race" in top else None,
        renew_report=flag(top["renew_report"]) if "renew_report" in top else None,
        columns=read_columns(top.get("columns")),
    )


def _name(node: YamlNode | None, path: Path) -> str:
    name = path.stem if node is None else node.value
    if isinstance(name, str) and re.fullmatch(LABEL, name):
        return name
    location = node or YamlNode(None, 1, "name", str(path))
    location.fail(f"{name!r} cannot name a folder; use letters, digits and _ + - . (not a dot first)")
