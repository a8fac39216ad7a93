"""A sweep file, read and checked as far as that goes without expanding it.

=========  =========================================================================
extends    another sweep file that this one stands on top of (:mod:`launchers.plan.sweep_files.extends`)
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
stages     sweeps that follow each other; `after`: what the first waits for (:mod:`launchers.plan.sweep_files.stages`)
columns    order of the table's columns: tasks, or tasks with a metric; others follow
select     which settings the report chooses, on validation (:mod:`launchers.plan.model_selection.rule`)
race       which settings train on from a step, and which are left there (:mod:`launchers.plan.race.rule`)
renew_report  false: jobs that end do not renew the page of the report; takes precedence over the profile's
=========  =========================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.config_files import CONFIGS
from hyperformer.settings.shipped import ShippedFiles
from hyperformer.settings.values import settings
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.model_selection.rule import SelectionRule, read_rule
from launchers.plan.race.rule import RaceRule, read_race
from launchers.plan.resources import flag
from launchers.plan.sweep_files.column_order import read_columns
from launchers.plan.sweep_files.extends import read_extended
from launchers.plan.sweep_files.resource_rules import ResourceRules, read_max_parallel, read_rules
from launchers.plan.sweep_files.stages import After, of_stage, read_after, read_source, stage_names

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
# The launcher decides these, or the file says them elsewhere.
_ELSEWHERE = {
    "output_dir": "the launcher gives every run its own folder; leave it out",
    "variant": "name variants under `variants:`",
    "tasks": "name tasks under `tasks:`, at the top of the file",
}
_LABEL = r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*"
_IS_NUMBER_MAP = frozenset(key for key, entry in settings().items() if entry.is_map and not entry.is_name_map)
_IS_LIST = frozenset(key for key, entry in settings().items() if entry.is_list)


@dataclass(frozen=True)
class Variant:
    """A variant that the sweep names: its label in the file, and its config file."""

    name: str
    config_file: Path
    location: YamlNode


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
            is_setting = key in settings() and key not in _ELSEWHERE
            hint = " (settings of the runs go under `base:`)" if is_setting else ""
            entry.fail(f"unknown key {key!r}{hint or nearest(key, KEYS)}")
    variants = _variants(root, top)
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
        base=_sourced(_settings(top.get("base"), "base"), earlier),
        tasks=_tasks(top.get("tasks")),
        grid=_lists(top.get("grid"), "grid"),
        zip=_zip(top.get("zip"), top.get("grid")),
        overrides={
            variant: _sourced(entries, earlier)
            for variant, entries in _overrides(top.get("overrides"), labels).items()
        },
        earlier=earlier,
        exclude=_exclude(top.get("exclude")),
        resources=read_rules(top.get("resources"), labels),
        max_parallel=read_max_parallel(top.get("resources")),
        select=select,
        race=read_race(top["race"], select) if "race" in top else None,
        renew_report=flag(top["renew_report"]) if "renew_report" in top else None,
        columns=read_columns(top.get("columns")),
    )


def is_axis(key: str, node: YamlNode) -> bool:
    """Whether an override gives several values: a list, or for settings that are lists a list of lists."""
    if key in _IS_LIST:
        return isinstance(node.value, list) and any(isinstance(item.value, list) for item in node.value)
    return isinstance(node.value, list)


def _name(node: YamlNode | None, path: Path) -> str:
    name = path.stem if node is None else node.value
    if isinstance(name, str) and re.fullmatch(_LABEL, name):
        return name
    location = node or YamlNode(None, 1, "name", str(path))
    location.fail(f"{name!r} cannot name a folder; use letters, digits and _ + - . (not a dot first)")


def _variants(root: YamlNode, top: dict[str, YamlNode]) -> tuple[Variant, ...]:
    node = top.get("variants", top.get("config"))
    if node is None:
        root.fail("must have `variants:` (names of shipped configs) or `config:` (a config file)")
    entries = [node] if "variants" not in top else node.sequence()
    found: dict[str, Variant] = {}
    for entry in entries:
        name, file = _named_config(entry)
        if name in found:
            entry.fail(f"{name!r} is named twice")
        found[name] = Variant(name, file, entry)
    return tuple(found.values())


def _named_config(entry: YamlNode) -> tuple[str, Path]:
    """The label of a variant, and its config file: the file's name, or what ``{LABEL: FILE}`` says."""
    if not isinstance(entry.value, dict):
        file = config_file(entry)
        return file.stem, file
    if len(entry.value) != 1:
        entry.fail("must be one {LABEL: CONFIG}, such as {without-norms: hyperformer}")
    ((label, node),) = entry.value.items()
    if not re.fullmatch(_LABEL, label):
        node.fail(f"{label!r} cannot name a variant; use letters, digits and _ + - . (not a dot first)")
    return label, config_file(node)


def config_file(node: YamlNode) -> Path:
    """The config file that `node` names: relative to the working directory, to the sweep file, or shipped."""
    if not isinstance(node.value, str):
        node.fail(f"must be the name or path of a config file, not {node.value_text()}")
    try:
        return CONFIGS.find(node.value, beside=Path(node.file).parent)
    except ConfigError as error:
        node.fail(str(error))


def _check_setting(key: str, node: YamlNode, *, also: tuple[str, ...] = ()) -> None:
    if key not in settings():
        node.fail(f"unknown setting {key!r}{nearest(key, settings())}")
    if key in _ELSEWHERE and key not in also:
        node.fail(_ELSEWHERE[key])


def _settings(node: YamlNode | None, what: str) -> dict[str, YamlNode]:
    entries = node.mapping() if node else {}
    for key, entry in entries.items():
        _check_setting(key, entry)
        if is_axis(key, entry) or (isinstance(entry.value, list) and key not in _IS_LIST):
            entry.fail(f"{what} takes one value; several go under `grid:`")
    return entries


def _sourced(entries: dict[str, YamlNode], earlier: Sequence[str]) -> dict[str, YamlNode]:
    """The settings; `init_from` may name a run of an earlier stage."""
    if isinstance(getattr(entries.get("init_from"), "value", None), dict):
        read_source(entries["init_from"], earlier)
    return entries


def _tasks(node: YamlNode | None) -> YamlNode | None:
    if node is not None:
        for entry in node.sequence():
            if not isinstance(entry.value, str):
                entry.fail(f"must be the name of a task, not {entry.value_text()}")
    return node


def _lists(node: YamlNode | None, what: str) -> dict[str, YamlNode]:
    entries = node.mapping() if node else {}
    for key, entry in entries.items():
        _check_setting(key, entry, also=("tasks",))
        seen: set[object] = set()
        for item in entry.sequence():
            is_map = isinstance(item.value, dict) and key not in _IS_NUMBER_MAP
            if is_map or (isinstance(item.value, list) and key not in _IS_LIST):
                item.fail(f"must be one value of {key}, not {item.value_text()}")
            if key in _IS_LIST and not isinstance(item.value, list):
                item.fail(f"{key} is a list, so {what} takes a list of lists, such as [[a, b], [c]]")
            is_one = not isinstance(item.value, list | dict)
            value = item.value if is_one else json.dumps(item.plain(), sort_keys=True)
            if what == "grid" and value in seen:
                item.fail(f"{item.value_text()} is given twice")
            seen.add(value)
    return entries


def _zip(node: YamlNode | None, grid: YamlNode | None) -> dict[str, YamlNode]:
    entries = _lists(node, "zip")
    lengths = {key: len(entry.value) for key, entry in entries.items()}
    for key, entry in entries.items():
        if grid is not None and key in grid.mapping():
            entry.fail(f"{key} is in `grid:` too; it can be in one of them")
        if len(set(lengths.values())) > 1:
            lengths_text = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            entry.fail(f"lists under `zip:` must have the same length, but {lengths_text}")
    return entries


def _overrides(node: YamlNode | None, names: list[str]) -> dict[str, dict[str, YamlNode]]:
    found = {}
    for name, entry in (node.mapping() if node else {}).items():
        if name not in names:
            entry.fail(f"{name!r} is none of the sweep's variants{nearest(name, names)}")
        found[name] = entry.mapping()
        for key, value in found[name].items():
            _check_setting(key, value, also=("tasks",))
            if isinstance(value.value, dict) and not (settings()[key].is_map or key == "init_from"):
                value.fail(f"must be a value of {key}, or a list of values, not {value.value_text()}")
            if isinstance(value.value, list):
                value.sequence()
    return found


def _exclude(node: YamlNode | None) -> tuple[dict[str, YamlNode], ...]:
    entries = []
    for entry in node.sequence() if node else []:
        rule = entry.mapping()
        if not rule:
            entry.fail("would exclude every run")
        for key, value in rule.items():
            if key != "task":
                _check_setting(key, value, also=("tasks", "variant"))
        entries.append(rule)
    return tuple(entries)
