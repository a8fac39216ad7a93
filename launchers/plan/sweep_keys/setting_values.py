"""The keys of a sweep file that say settings: `base`, `tasks`, `grid`, `zip`, `overrides`, `exclude`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hyperformer.errors import nearest
from hyperformer.settings.values import settings
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.sweep_keys.stages import read_source

# The launcher decides these, or the file says them elsewhere.
ELSEWHERE = {
    "output_dir": "the launcher gives every run its own folder; leave it out",
    "variant": "name variants under `variants:`",
    "tasks": "name tasks under `tasks:`, at the top of the file",
}
_IS_NUMBER_MAP = frozenset(key for key, entry in settings().items() if entry.is_map and not entry.is_name_map)
_IS_LIST = frozenset(key for key, entry in settings().items() if entry.is_list)


def is_axis(key: str, node: YamlNode) -> bool:
    """Whether an override gives several values: a list, or for settings that are lists a list of lists."""
    if key in _IS_LIST:
        return isinstance(node.value, list) and any(isinstance(item.value, list) for item in node.value)
    return isinstance(node.value, list)


def _check_setting(key: str, node: YamlNode, *, also: tuple[str, ...] = ()) -> None:
    if key not in settings():
        node.fail(f"unknown setting {key!r}{nearest(key, settings())}")
    if key in ELSEWHERE and key not in also:
        node.fail(ELSEWHERE[key])


def read_base(node: YamlNode | None, earlier: Sequence[str]) -> dict[str, YamlNode]:
    """Settings of every run. `earlier`: the stages before, whose runs `init_from` may name."""
    entries = node.mapping() if node else {}
    for key, entry in entries.items():
        _check_setting(key, entry)
        if is_axis(key, entry) or (isinstance(entry.value, list) and key not in _IS_LIST):
            entry.fail("base takes one value; several go under `grid:`")
    return _sourced(entries, earlier)


def _sourced(entries: dict[str, YamlNode], earlier: Sequence[str]) -> dict[str, YamlNode]:
    """The settings; `init_from` may name a run of an earlier stage."""
    if isinstance(getattr(entries.get("init_from"), "value", None), dict):
        read_source(entries["init_from"], earlier)
    return entries


def read_tasks(node: YamlNode | None) -> YamlNode | None:
    """The list of tasks, of names."""
    if node is not None:
        for entry in node.sequence():
            if not isinstance(entry.value, str):
                entry.fail(f"must be the name of a task, not {entry.value_text()}")
    return node


def read_grid(node: YamlNode | None) -> dict[str, YamlNode]:
    """Settings with a list of values each."""
    return _lists(node, "grid")


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


def read_zip(node: YamlNode | None, grid: YamlNode | None) -> dict[str, YamlNode]:
    """Settings with a list of values each, all of one length."""
    entries = _lists(node, "zip")
    lengths = {key: len(entry.value) for key, entry in entries.items()}
    for key, entry in entries.items():
        if grid is not None and key in grid.mapping():
            entry.fail(f"{key} is in `grid:` too; it can be in one of them")
        if len(set(lengths.values())) > 1:
            lengths_text = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            entry.fail(f"lists under `zip:` must have the same length, but {lengths_text}")
    return entries


def read_overrides(
    node: YamlNode | None, names: list[str], earlier: Sequence[str]
) -> dict[str, dict[str, YamlNode]]:
    """Variant -> its own settings. `names`: of all variants; `earlier`: as of :func:`read_base`."""
    found = {}
    for name, entry in (node.mapping() if node else {}).items():
        if name not in names:
            entry.fail(f"{name!r} is none of the sweep's variants{nearest(name, names)}")
        found[name] = _sourced(entry.mapping(), earlier)
        for key, value in found[name].items():
            _check_setting(key, value, also=("tasks",))
            if isinstance(value.value, dict) and not (settings()[key].is_map or key == "init_from"):
                value.fail(f"must be a value of {key}, or a list of values, not {value.value_text()}")
            if isinstance(value.value, list):
                value.sequence()
    return found


def read_exclude(node: YamlNode | None) -> tuple[dict[str, YamlNode], ...]:
    """Rules, each of setting -> value: runs that match all of one are dropped."""
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
