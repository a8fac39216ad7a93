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
from typing import Any, Literal

from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.checks import check
from hyperformer.settings.schema import RunConfig


@functools.cache
def _sections() -> dict[str, type]:
    hints = typing.get_type_hints(RunConfig)
    return {
        name: hint
        for name, hint in hints.items()
        if isinstance(hint, type) and dataclasses.is_dataclass(hint)
    }


@functools.cache
def settings() -> dict[str, tuple[str, Any, Any]]:
    """Every setting's flat name -> (section or '', type, dataclass field), in the order of the files."""
    table: dict[str, tuple[str, Any, Any]] = {}
    sections = _sections()
    for section, owner in [("", RunConfig), *sections.items()]:
        hints = typing.get_type_hints(owner)
        for item in dataclasses.fields(owner):
            if section or item.name not in sections:
                table[item.name] = (section, hints[item.name], item)
    return table


def _describe(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(annotation)))
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return " or ".join(_describe(part) for part in typing.get_args(annotation))
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
        if value in typing.get_args(annotation) and not isinstance(value, bool):
            return value
    elif origin is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
    elif annotation is bool:
        if isinstance(value, bool):
            return value
    elif annotation is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif annotation is float:
        # YAML reads 3e-4 as text.
        if isinstance(value, str):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
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
        section, annotation, _ = known[key]
        try:
            coerced = _coerce(value, annotation)
        except ValueError:
            told = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:200]}..."
            raise ConfigError(f"{where}: {key} is {told}, but must be {_describe(annotation)}") from None
        grouped.setdefault(section, {})[key] = coerced
    sections = {name: owner(**grouped.get(name, {})) for name, owner in _sections().items()}
    config = RunConfig(**grouped[""], **sections)
    check(config, flatten(config), where)
    return config


def flatten(config: RunConfig) -> dict[str, Any]:
    """The inverse of :func:`make_config`: flat name -> plain JSON value."""
    flat: dict[str, Any] = {}
    for key, (section, _, _) in settings().items():
        value = getattr(getattr(config, section) if section else config, key)
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
        key: value
        for key, value in flatten(config).items()
        if known[key][2].metadata["result"] and value != defaults[key]
    }
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
