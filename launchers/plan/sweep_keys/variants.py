"""`variants:` and `config:` of a sweep file: which methods are trained, each by a config file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hyperformer.errors import ConfigError
from hyperformer.settings.config_files import CONFIGS
from hyperformer.settings.yaml_source import YamlNode

LABEL = r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*"
"""What can name a sweep or a variant, and a folder."""


@dataclass(frozen=True)
class Variant:
    """A variant that the sweep names: its label in the file, and its config file."""

    name: str
    config_file: Path
    location: YamlNode


def read_variants(root: YamlNode, top: dict[str, YamlNode]) -> tuple[Variant, ...]:
    """The variants of a sweep. `top`: the file's keys."""
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
    if not re.fullmatch(LABEL, label):
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
