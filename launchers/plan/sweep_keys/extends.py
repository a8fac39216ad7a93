"""``extends:``: a sweep file on top of another, or of several, each on top of the one before. Values keep their places.

The rules, for what the two files say of one key:

- Mappings are merged, key by key, at every depth. A list, or one value, takes the place of the other.
- What the upper file says of a setting in `base`, `grid`, `zip` or `tasks` takes the place of all that the
  lower one says of it, wherever that stands: in `base`, `grid`, `zip`, `overrides`, or in a stage.
- Nothing at all (``grid:``, or ``seed:`` below `grid`) takes away what the lower file has; in `base` and below a
  variant of `overrides`, null is a value.
- `name` is not taken over. What is said of variants that the upper file leaves out is left out.

A stage stands in the same way on top of what its file says outside of `stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path, PurePath

from hyperformer.errors import ConfigError, nearest
from hyperformer.files import expand_home
from hyperformer.settings.schema import EITHER_OR
from hyperformer.settings.shipped import ShippedFiles
from hyperformer.settings.values import settings
from hyperformer.settings.yaml_source import YamlNode, read_yaml

Entries = Mapping[str, YamlNode]

_SETTINGS = ("base", "grid", "zip")
# Below these, an entry without a value takes the lower file's away.
_NULL_REMOVES = ("", "grid", "zip", "overrides", "stages")
_NOT_TAKEN_OVER = ("name", "extends")


def read_extended(path: Path, shipped: ShippedFiles) -> tuple[str, YamlNode]:
    """A sweep file's text with that of the files it extends, as comments; and its value on top of theirs.

    Raises:
        ConfigError: a file cannot be read, is not there, or extends itself by way of others; with file and line.
    """
    return _read(path, shipped, ())


def _read(path: Path, shipped: ShippedFiles, before: tuple[Path, ...]) -> tuple[str, YamlNode]:
    text, root = read_yaml(path)
    node = root.value.get("extends") if isinstance(root.value, dict) else None
    if node is None:
        return text, root
    chain, under = (*before, path.resolve()), replace(root, value={})
    for entry in node.sequence() if isinstance(node.value, list) else [node]:
        lower = _find(entry, shipped)
        if lower.resolve() in chain:
            entry.fail(f"extends itself: {' -> '.join(each.name for each in (*chain, lower))}")
        lower_text, value = _read(lower, shipped, chain)
        told = "\n".join(f"# {line}".rstrip() for line in lower_text.splitlines())
        text, under = f"{text.rstrip()}\n\n# --- extends {lower}\n{told}\n", merge(under, value)
    return text, merge(under, root)


def _find(node: YamlNode, shipped: ShippedFiles) -> Path:
    """The file that `extends` names: from the folder of the file that says so, or one that ships."""
    if not isinstance(node.value, str):
        node.fail(f"must be the name or path of a sweep file, not {node.value_text()}")
    beside = Path(node.file).parent / expand_home(node.value)
    if beside.is_file():
        return beside
    try:
        return shipped.find(node.value)
    except ConfigError as error:
        node.fail(f"{error} (paths count from the folder of this file)")


def merge(under: YamlNode, over: YamlNode) -> YamlNode:
    """What two mappings of sweep keys mean together; the module has the rules.

    Raises:
        ConfigError: one of them is not a mapping.
    """
    above = over.mapping()
    below = {key: node for key, node in under.mapping().items() if key not in _NOT_TAKEN_OVER}
    below = _of_variants(_without(below, _settings_of(above), above.keys()), above.get("variants"))
    return _merged(replace(under, value=below), replace(over, value=above))


def _merged(under: YamlNode, over: YamlNode, group: str = "") -> YamlNode:
    if not isinstance(under.value, dict) or not isinstance(over.value, dict):
        return over
    found = dict(under.value)
    for key, node in over.value.items():
        inner = f"{group}.{key}" if group else key
        if node.value is None and group in _NULL_REMOVES:
            if group in _SETTINGS and key not in settings():
                node.fail(f"unknown setting {key!r}{nearest(key, settings())}")
            # What the lower file says of settings, and `tasks`, is gone already (:func:`_without`).
            if found.pop(key, None) is None and group not in _SETTINGS and inner != "tasks":
                node.fail(
                    "has no value, which removes what the lower file says of it; but the lower file does not have it"
                )
        elif key not in found:
            found[key] = _merged(replace(node, value={}), node, inner) if _is_group(node, inner) else node
        else:
            found[key] = merge(found[key], node) if group == "stages" else _merged(found[key], node, inner)
    return replace(over, value=found)


def _is_group(node: YamlNode, group: str) -> bool:
    """Whether it is a mapping in which an entry without a value takes something away."""
    return group in _NULL_REMOVES and isinstance(node.value, dict)


def _settings_of(above: Entries) -> set[str]:
    """The settings that a file speaks of for all its runs; of two that say the same, both."""
    found = {key for group in _SETTINGS if group in above for key in _keys(above[group])}
    found |= {"tasks"} & above.keys()
    return found | {key for pair in EITHER_OR if found & set(pair) for key in pair}


def _keys(node: YamlNode) -> AbstractSet[str]:
    return node.value.keys() if isinstance(node.value, dict) else frozenset()


def _without(below: Entries, settings: Collection[str], keys: Collection[str]) -> dict[str, YamlNode]:
    """What the lower file says of other settings. In its stages, `keys` of the upper file's own level go too."""
    found = {key: node for key, node in below.items() if key not in settings}
    for group in _SETTINGS:
        if group in found:
            found[group] = _less(found[group], settings)
    if "overrides" in found:
        found["overrides"] = _each(found["overrides"], lambda node: _less(node, settings))
    if "stages" in found:
        whole = {
            key for key in keys if key not in ("base", "grid", "zip", "overrides", "resources", "stages")
        }
        found["stages"] = _each(found["stages"], lambda node: _stage_without(node, settings, whole))
    return found


def _stage_without(node: YamlNode, settings: Collection[str], keys: Collection[str]) -> YamlNode:
    if not isinstance(node.value, dict):
        return node
    entries = {key: item for key, item in node.value.items() if key not in keys}
    return replace(node, value=_without(entries, settings, ()))


def _each(node: YamlNode, change: Callable[[YamlNode], YamlNode]) -> YamlNode:
    if not isinstance(node.value, dict):
        return node
    return replace(node, value={key: change(item) for key, item in node.value.items()})


def _less(node: YamlNode, keys: Collection[str]) -> YamlNode:
    if not isinstance(node.value, dict):
        return node
    return replace(node, value={key: item for key, item in node.value.items() if key not in keys})


def _labels(variant: YamlNode) -> AbstractSet[str]:
    """What `overrides` call a variant."""
    return _keys(variant) or {PurePath(str(variant.value)).name.removesuffix(".json")}


def _of_variants(below: dict[str, YamlNode], variants: YamlNode | None) -> dict[str, YamlNode]:
    """Without what is said of variants that the upper file leaves out."""
    if variants is None or not isinstance(variants.value, list):
        return below
    named = {label for item in variants.value for label in _labels(item)}
    found = dict(below)
    if "overrides" in found:
        found["overrides"] = _less(found["overrides"], _keys(found["overrides"]) - named)
    resources = found.get("resources")
    if resources is not None and "variants" in _keys(resources):
        special = resources.value["variants"]
        kept = {**resources.value, "variants": _less(special, _keys(special) - named)}
        found["resources"] = replace(resources, value=kept)
    return found
