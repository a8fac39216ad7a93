"""Plain values -> a checked :class:`RunConfig`, and back; the signature. Imports no torch.

:func:`make_config` is the only way from files and command lines to a config.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.checks import check
from hyperformer.settings.schema import Bounds, RunConfig
from hyperformer.settings.yaml_source import Located


@functools.cache
def _sections() -> dict[str, type]:
    hints = typing.get_type_hints(RunConfig)
    return {
        name: hint
        for name, hint in hints.items()
        if isinstance(hint, type) and dataclasses.is_dataclass(hint)
    }


@dataclass(frozen=True)
class Setting:
    """One setting, as :mod:`hyperformer.settings.schema` declares it.

    Attributes:
        section: the field of RunConfig that holds it; '': RunConfig itself.
        bounds: of a number.
        result: whether the value can change the run's result. Those that cannot
            (where files go, how often to log) stay out of the signature.
        path: whether it can name a file or a folder.
        used_by: kinds of adapter that use it; (): all runs do.
        several_tasks: whether only runs of several tasks use it.
    """

    name: str
    section: str
    type: Any
    default: Any
    help: str
    bounds: Bounds | None = None
    result: bool = True
    path: bool = False
    used_by: tuple[str, ...] = ()
    several_tasks: bool = False

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that its value can have, such as (str, None)."""
        is_union = typing.get_origin(self.type) in (types.UnionType, typing.Union)
        return typing.get_args(self.type) if is_union else (self.type,)

    @property
    def is_text(self) -> bool:
        return str in self.kinds

    @property
    def is_list(self) -> bool:
        return any(typing.get_origin(kind) is tuple for kind in self.kinds)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that it can have, if they are few; else ()."""
        return typing.get_args(self.type) if typing.get_origin(self.type) is Literal else ()

    def is_used(self, values: Mapping[str, Any]) -> bool:
        """Whether a run with these flat values uses the setting; missing values have their defaults."""
        tasks = values.get("tasks")
        if self.several_tasks and isinstance(tasks, list | tuple) and len(tasks) == 1:
            return False
        kind = values.get("adapter", settings()["adapter"].default)
        return not self.used_by or kind in self.used_by

    def value_of(self, node: Located) -> Any:
        """The value that a YAML text gives it: where text is wanted, a number is taken as it is written."""
        is_one = not isinstance(node.value, dict | list)
        if self.is_list or (self.is_text and is_one):
            return node.texts()
        return node.plain()


@functools.cache
def settings() -> dict[str, Setting]:
    """Every setting by its flat name, in the order of the files."""
    table = {}
    sections = _sections()
    for section, owner in [("", RunConfig), *sections.items()]:
        hints = typing.get_type_hints(owner)
        for item in dataclasses.fields(owner):
            if section or item.name not in sections:
                table[item.name] = Setting(
                    item.name, section, hints[item.name], item.default, **item.metadata
                )
    return table


def describe_type(annotation: Any) -> str:
    """A setting's type in words: 'a number', 'one of none, task, ...'."""
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(annotation)))
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return " or ".join(describe_type(part) for part in typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return "a list of names"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names[annotation]


def _coerce(value: Any, annotation: Any) -> Any:
    """`value` as `annotation`; raises ValueError where it does not fit. Never rounds or guesses."""
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        parts = typing.get_args(annotation)
        if value is None and type(None) in parts:
            return None
        return _coerce(value, next(part for part in parts if part is not type(None)))
    if origin is Literal:
        if not isinstance(value, bool):
            for choice in typing.get_args(annotation):
                if choice == value:
                    return choice  # the choice itself: 3 and 3.0 are one value
    elif origin is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
    elif annotation is bool:
        if isinstance(value, bool):
            return value
    elif annotation is int:
        if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
            return int(value)
    elif annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value) + 0.0  # -0.0 is 0.0
    elif annotation is str and isinstance(value, str):
        return value
    raise ValueError


def make_config(values: Mapping[str, Any], where: str = "settings") -> RunConfig:
    """A checked RunConfig from flat settings.

    Args:
        values: flat name -> value.
        where: file or place named in errors.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type or is impossible.
    """
    known = settings()
    grouped: dict[str, dict[str, Any]] = {"": {}}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown setting {key!r}{nearest(key, known)}")
        entry = known[key]
        try:
            coerced = _coerce(value, entry.type)
        except (ValueError, OverflowError):
            told = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:200]}..."
            raise ConfigError(f"{where}: {key} is {told}, but must be {describe_type(entry.type)}") from None
        if entry.bounds and coerced is not None and not entry.bounds.hold(coerced):
            raise ConfigError(f"{where}: {key} is {coerced!r}, but {entry.bounds.words}")
        grouped.setdefault(entry.section, {})[key] = coerced
    sections = {name: owner(**grouped.get(name, {})) for name, owner in _sections().items()}
    config = RunConfig(**grouped[""], **sections)
    check(config, flatten(config), where)
    return config


def flatten(config: RunConfig) -> dict[str, Any]:
    """The inverse of :func:`make_config`: flat name -> plain JSON value."""
    flat: dict[str, Any] = {}
    for key, entry in settings().items():
        value = getattr(getattr(config, entry.section) if entry.section else config, key)
        flat[key] = list(value) if isinstance(value, tuple) else value
    return flat


def replace(config: RunConfig, **values: Any) -> RunConfig:
    """A copy of `config` with some flat settings changed, checked anew."""
    return make_config({**flatten(config), **values})


@functools.cache
def _defaults() -> dict[str, Any]:
    return flatten(RunConfig())


def signature(config: RunConfig) -> str:
    """Hash of everything that can change the run's result, and of nothing else: 10 hex digits.

    A setting that keeps its default is left out, so that a later version that
    adds a setting does not rename the runs of an earlier one.
    """
    defaults, known = _defaults(), settings()
    told = {
        key: value for key, value in flatten(config).items() if known[key].result and value != defaults[key]
    }
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
