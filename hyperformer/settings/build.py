"""Plain values -> a checked :class:`RunConfig`, and back. Imports no torch.

:func:`make_config` is the only way from files and command lines to a config.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.checks import check
from hyperformer.settings.methods import METHOD_OPTIONS, METHODS
from hyperformer.settings.schema import EITHER_OR, OUTPUT, PATH_OR_NAME, Bounds, RunConfig
from hyperformer.settings.yaml_source import YamlNode


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
        path: what it can hold if it names a file or folder: PATH, PATH_OR_NAME or OUTPUT; else ''.
        several_tasks: whether only runs of several tasks use it.
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
    sections = _sections()
    for section, owner in [("", RunConfig), *sections.items()]:
        hints = typing.get_type_hints(owner)
        for item in dataclasses.fields(owner):
            if item.metadata:  # a section is no setting, nor is what identifies a run
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
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
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
    elif annotation is str and isinstance(value, str):
        return value
    raise ValueError


def _is_name_map(annotation: Any) -> bool:
    return typing.get_origin(annotation) is Mapping and typing.get_args(annotation)[1] == str | None


def _is_name_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "")


def coerce(key: str, value: Any, where: str) -> Any:
    """`value` as the setting `key` has it: of its type, within its bounds, a path in its one spelling.

    Raises:
        ConfigError: it is no value of the setting, or there is no such setting.
    """
    known = settings()
    if key not in known:
        raise ConfigError(f"{where}: unknown setting {key!r}{nearest(key, known)}")
    entry = known[key]
    try:
        coerced = _coerce(value, entry.type)
    except (ValueError, OverflowError):
        told = repr(value) if len(repr(value)) <= 200 else f"{repr(value)[:200]}..."
        raise ConfigError(f"{where}: {key} is {told}, but must be {describe_type(entry.type)}") from None
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


@functools.cache
def _names_or_paths() -> list[str]:
    return [key for key, entry in settings().items() if entry.path == PATH_OR_NAME]


def local_name(name: str) -> str:
    """The path of a name that is a folder of the working directory; others as they are."""
    # 'toy' is the model that ships with us, whatever lies in the working directory.
    return os.path.abspath(name) if name not in ("", "toy") and os.path.isdir(name) else name


def with_local_names(
    values: Mapping[str, Any], local_name: Callable[[str], str] = local_name
) -> dict[str, Any]:
    """The values, with names that are folders of the working directory as paths, as transformers takes them.

    Args:
        local_name: :func:`local_name`, or one that remembers what it found.
    """
    found = dict(values)
    for key in _names_or_paths():
        if isinstance(found.get(key), str):
            found[key] = local_name(found[key])
    return found


def of_tasks(values: Mapping[str, str | None] | None, tasks: Iterable[str]) -> dict[str, str | None] | None:
    """The entries of `init_tasks` for these tasks: what a run of some of the tasks that a map is for takes of it."""
    return {task: (values or {})[task] for task in tasks if task in (values or {})} or None


def layered(values: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `layer` on top. Of two settings that say the same, the upper layer's holds.

    Raises:
        ConfigError: the layer has both.
    """
    found = dict(values)
    for pair in EITHER_OR:
        given = [key for key in pair if layer.get(key) is not None]
        if len(given) > 1:
            raise ConfigError(f"{given[1]} and {given[0]} are both given; write one of them")
        if given:
            found = {key: value for key, value in found.items() if key not in pair}
    return found | dict(layer)


def make_config(
    values: Mapping[str, Any],
    where: str = "settings",
    contents: Mapping[str, str] | None = None,
    known_as: str | None = None,
) -> RunConfig:
    """A checked RunConfig from flat settings.

    Args:
        values: flat name -> value.
        where: file or place named in errors.
        contents, known_as: as in :class:`RunConfig`.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type or is impossible.
    """
    return SimilarConfigs().make(values, where, contents, known_as)


class SimilarConfigs:
    """Makes configs one after the other. What is the same object as in the values before is not checked again.

    The thousands of runs of a sweep share nearly all of their values.
    """

    def __init__(self) -> None:
        self._values: Mapping[str, Any] = {}
        self._grouped: dict[str, dict[str, Any]] = {}
        self._sections: dict[str, Any] = {}

    def make(
        self,
        values: Mapping[str, Any],
        where: str,
        contents: Mapping[str, str] | None = None,
        known_as: str | None = None,
    ) -> RunConfig:
        """As :func:`make_config`."""
        before, self._values = self._values, {}  # of values that are refused nothing is kept
        if not before:
            self._grouped, self._sections = {name: {} for name in ("", *_sections())}, {}
        changed = {
            key: coerce(key, value, where)
            for key, value in values.items()
            if key not in before or before[key] is not value
        }
        gone = before.keys() - values.keys()
        for key in gone:
            del self._grouped[settings()[key].section][key]
        for key, value in changed.items():
            self._grouped[settings()[key].section][key] = value
        touched = {settings()[key].section for key in (*gone, *changed)}
        for name in _sections():
            if name in touched or name not in self._sections:
                self._sections[name] = _section(name, self._grouped[name])
        config = RunConfig(**self._grouped[""], **self._sections, contents=contents, known_as=known_as)
        if not before or {*gone, *changed} != {"seed"}:  # which contradicts no other setting
            check(config, kept_flat(config), where)
        self._values = dict(values)
        return config


def _section(name: str, values: dict[str, Any]) -> Any:
    """A section with these values. The runs of a sweep share most sections."""
    items = tuple(values.items())
    try:
        return _shared_section(name, items)
    except TypeError:  # a map has no hash
        return _sections()[name](**values)


@functools.lru_cache(maxsize=1024)
def _shared_section(name: str, items: tuple[tuple[str, Any], ...]) -> Any:
    return _sections()[name](**dict(items))


def flatten(config: RunConfig) -> dict[str, Any]:
    """The inverse of :func:`make_config`: flat name -> plain JSON value."""
    return dict(kept_flat(config))


def kept_flat(config: RunConfig) -> dict[str, Any]:
    """As :func:`flatten`, kept with the config: a plan asks several times for each run. Not to be changed."""
    own = vars(config)
    flat = own.get("_flat")
    if flat is None:
        flat = {key: own[key] for key in _own_keys()}
        for section in _sections():
            flat |= vars(own[section])
        for key in _tuples():
            if flat[key] is not None:
                flat[key] = list(flat[key])
        own["_flat"] = flat
    return flat


@functools.cache
def _own_keys() -> list[str]:
    return [key for key, entry in settings().items() if not entry.section]


@functools.cache
def _tuples() -> list[str]:
    return [key for key, entry in settings().items() if entry.is_list]


def replace(config: RunConfig, **values: Any) -> RunConfig:
    """A copy of `config` with some flat settings changed, checked anew.

    It is the same run, with the contents recorded, if these settings cannot change its result.
    """
    if any(settings()[key].result for key in values if key in settings()):
        return make_config({**flatten(config), **values})
    return make_config({**flatten(config), **values}, contents=config.contents, known_as=config.known_as)
