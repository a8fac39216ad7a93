"""Plain values -> a checked :class:`RunConfig`, and back. Imports no torch.

:func:`make_config` is the only way from files and command lines to a config.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.checks import check
from hyperformer.settings.schema import EITHER_OR, PATH_OR_NAME, RunConfig
from hyperformer.settings.values import coerce, sections, settings


@functools.cache
def _names_or_paths() -> list[str]:
    return [key for key, entry in settings().items() if entry.path == PATH_OR_NAME]


def local_name(name: str) -> str:
    """The path of a name that is a folder of the working directory; others as they are."""
    # 'toy' is the model that ships with us, whatever is in the working directory.
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


def init_tasks_of(
    values: Mapping[str, str | None] | None, tasks: Iterable[str]
) -> dict[str, str | None] | None:
    """The entries of `init_tasks` for these tasks: what a run of some of the tasks that a map is for takes of it."""
    return {task: (values or {})[task] for task in tasks if task in (values or {})} or None


def overlay(values: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
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
            self._grouped, self._sections = {name: {} for name in ("", *sections())}, {}
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
        for name in sections():
            if name in touched or name not in self._sections:
                self._sections[name] = _section(name, self._grouped[name])
        config = RunConfig(**self._grouped[""], **self._sections, contents=contents, known_as=known_as)
        # No check reads the seed (a test holds that), and runs of a sweep mostly differ in it.
        if not before or {*gone, *changed} != {"seed"}:
            check(config, cached_flat(config), where)
        self._values = dict(values)
        return config


def _section(name: str, values: dict[str, Any]) -> Any:
    """A section with these values. The runs of a sweep share most sections."""
    items = tuple(values.items())
    try:
        return _shared_section(name, items)
    except TypeError:  # a map has no hash
        return sections()[name](**values)


@functools.lru_cache(maxsize=1024)
def _shared_section(name: str, items: tuple[tuple[str, Any], ...]) -> Any:
    return sections()[name](**dict(items))


def flatten(config: RunConfig) -> dict[str, Any]:
    """The inverse of :func:`make_config`: flat name -> plain JSON value."""
    return dict(cached_flat(config))


def cached_flat(config: RunConfig) -> dict[str, Any]:
    """As :func:`flatten`, kept with the config: a plan asks several times for each run. Not to be changed."""
    own = vars(config)
    flat = own.get("_flat")
    if flat is None:
        flat = {key: own[key] for key in _own_keys()}
        for section in sections():
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
