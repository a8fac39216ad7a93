"""The settings: what each is, and which values it takes. Imports no torch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hyperformer.errors import ConfigError, nearest
from hyperformer.files import is_text
from hyperformer.settings.methods import METHOD_OPTIONS, METHODS
from hyperformer.settings.schema import OUTPUT, PATH_OR_NAME, Bounds, RunConfig
from hyperformer.settings.yaml_source import YamlNode


@functools.cache
def sections() -> dict[str, type]:
    """The parts of a config that are objects of their own: name -> class."""
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
        path: what it can hold if it names a file or folder: PATH, PATH_OR_NAME or OUTPUT; else ''.
        several_tasks: whether only runs of several tasks use it.
        answers: whether it decides how a run's evaluations answer, and so belongs to the trained model.
    """

    name: str
    section: str
    type: Any
    default: Any
    help: str
    bounds: Bounds | None = None
    result: bool = True
    path: str = ""
    several_tasks: bool = False
    answers: bool = False

    @functools.cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The types that its value can have, such as (str, None)."""
        is_union = typing.get_origin(self.type) in (types.UnionType, typing.Union)
        return typing.get_args(self.type) if is_union else (self.type,)

    @functools.cached_property
    def is_text(self) -> bool:
        return str in self.kinds

    @functools.cached_property
    def is_list(self) -> bool:
        return any(typing.get_origin(kind) is tuple for kind in self.kinds)

    @functools.cached_property
    def is_map(self) -> bool:
        return any(typing.get_origin(kind) is Mapping for kind in self.kinds)

    @functools.cached_property
    def is_name_map(self) -> bool:
        return any(_is_name_map(kind) for kind in self.kinds)

    @functools.cached_property
    def choices(self) -> tuple[Any, ...]:
        """The values that it can have, if they are few; else ()."""
        return next((typing.get_args(kind) for kind in self.kinds if typing.get_origin(kind) is Literal), ())

    @property
    def is_of_methods(self) -> bool:
        """Whether only some tuning methods use it."""
        return self.name in METHOD_OPTIONS

    def is_used(self, values: Mapping[str, Any]) -> bool:
        """Whether a run with these flat values uses the setting; missing values have their defaults."""
        tasks = values.get("tasks")
        if self.several_tasks and isinstance(tasks, list | tuple) and len(tasks) == 1:
            return False
        kind = values.get("adapter", settings()["adapter"].default)
        method = METHODS.get(kind) if isinstance(kind, str) else None
        return not self.is_of_methods or (method is not None and self.name in method.options)

    def value_of(self, node: YamlNode) -> Any:
        """The value that a YAML text gives it: where text is wanted, a number is taken as it is written."""
        is_one = not isinstance(node.value, dict | list)
        if self.is_list or self.is_name_map or (self.is_text and is_one):
            return node.texts()
        return node.plain()


@functools.cache
def settings() -> dict[str, Setting]:
    """Every setting by its flat name, in the order of the files."""
    table = {}
    for section, owner in [("", RunConfig), *sections().items()]:
        hints = typing.get_type_hints(owner)
        for item in dataclasses.fields(owner):
            if item.metadata:  # a section is not a setting, nor is what identifies a run
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
    if typing.get_origin(annotation) is Mapping:
        example = (
            "names, such as {scitail: mnli}" if _is_name_map(annotation) else "numbers, such as {mnli: 2}"
        )
        return f"a map of {example}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names[annotation]


def _coerce(value: Any, annotation: Any) -> Any:
    """`value` as `annotation`; raises ValueError where it does not fit. Never rounds or guesses."""
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        parts = typing.get_args(annotation)
        if value is None and type(None) in parts:
            return None
        for part in parts:
            if part is not type(None):
                with contextlib.suppress(ValueError):
                    return _coerce(value, part)
    if origin is Literal:
        if not isinstance(value, bool):
            for choice in typing.get_args(annotation):
                if choice == value:
                    return choice  # the choice itself: 3 and 3.0 are one value
    elif origin is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list | tuple) and all(isinstance(part, str) and is_text(part) for part in value):
            return tuple(value)
    elif origin is Mapping:
        if isinstance(value, Mapping) and _is_name_map(annotation):
            if all(map(_is_name_or_none, value.values())):
                return dict(value) or None
        elif isinstance(value, Mapping):
            return {key: _coerce(item, typing.get_args(annotation)[1]) for key, item in value.items()} or None
    elif annotation is bool:
        if isinstance(value, bool):
            return value
    elif annotation is int:
        if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
            return int(value)
    elif annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value) + 0.0  # -0.0 is 0.0
    elif annotation is str and isinstance(value, str) and is_text(value):
        return value
    raise ValueError


def _is_name_map(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Mapping and typing.get_args(annotation)[1] == str | None


def _is_name_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "")


def coerce(key: str, value: Any, where: str) -> Any:
    """`value` as the setting `key` has it: of its type, within its bounds, a path in its one spelling.

    Raises:
        ConfigError: it is not a value of the setting, or there is no such setting.
    """
    known = settings()
    if key not in known:
        raise ConfigError(f"{where}: unknown setting {key!r}{nearest(key, known)}")
    entry = known[key]
    try:
        coerced = _coerce(value, entry.type)
    except (ValueError, OverflowError):
        text = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:200]}..."
        raise ConfigError(f"{where}: {key} is {text}, but must be {describe_type(entry.type)}") from None
    numbers = coerced.values() if isinstance(coerced, Mapping) else [coerced]
    if entry.bounds and coerced is not None and not all(map(entry.bounds.hold, numbers)):
        raise ConfigError(f"{where}: {key} is {coerced!r}, but {entry.bounds.words}")
    return _one_spelling(entry.path, coerced) if entry.path and coerced else coerced


def _one_spelling(kind: str, value: str) -> str:
    """A path without ``~``, and unless it is written to, absolute without ``..``, ``//`` and a last ``/``."""
    path = os.path.expanduser(value)
    is_name = kind == PATH_OR_NAME and not path.startswith(("/", "./", "../")) and path not in (".", "..")
    if kind == OUTPUT or is_name:
        return path
    head, dots, rest = path.rpartition("..")
    if dots:  # above a link is where the link leads, so it is no matter of text
        path = os.path.realpath(head + dots) + rest
    return os.path.abspath(path)
