"""The signature: what identifies a run by all that can change its result. Imports no torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from hyperformer.settings.build import cached_flat
from hyperformer.settings.precision import precision_in_signature
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.values import settings


def with_contents(config: RunConfig, contents: Mapping[str, str]) -> RunConfig:
    """The same settings with other contents of the files that they name."""
    changed = dataclasses.replace(config, contents=contents)
    vars(changed).update(
        _flat=cached_flat(config), _hashed=_hashed(config), _settings_hash=settings_hash(config)
    )
    return changed


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    """The same settings with another seed, which must be one. What does not depend on the seed is shared."""
    own = vars(config)
    kept = {
        "_flat": {**cached_flat(config), "seed": seed},
        "_around_seed": own.setdefault("_around_seed", {}),
    }
    changed = object.__new__(RunConfig)
    vars(changed).update({key: own[key] for key in _FIELDS}, seed=seed, **kept)
    return changed


_FIELDS = [item.name for item in dataclasses.fields(RunConfig)]


@functools.cache
def _counted_defaults() -> dict[str, Any]:
    """The defaults of the settings that a signature holds as they are."""
    table, defaults = settings(), cached_flat(RunConfig())
    return {key: defaults[key] for key in table if table[key].result and key != "zero_stage"}


def signature(config: RunConfig) -> str:
    """Hash of everything that can change the run's result, and of nothing else: 10 hex digits.

    Of a file or folder whose content is known, the content counts and not the path. A setting
    that keeps its default is left out, so that a later version that adds a setting does not
    rename the runs of an earlier one.
    """
    if config.known_as is not None:
        return config.known_as
    return (
        _kept_hash(config, "_signature", _hashed_with_contents) if config.contents else settings_hash(config)
    )


def _hashed_with_contents(config: RunConfig) -> dict[str, Any]:
    contents = config.contents or {}
    known = {key.partition("/")[0] for key in contents}
    counted = {key: value for key, value in _hashed(config).items() if key not in known}
    held = {key: value for key, value in contents.items() if value}
    return {**counted, "contents": held} if held else counted


def unread_settings(config: RunConfig) -> list[str]:
    """Settings that name a file or folder which the run reads, and whose content is not known."""
    flat, known = cached_flat(config), {key.partition("/")[0] for key in config.contents or {}}
    return [key for key in _read_paths() if str(flat[key]).startswith("/") and key not in known]


@functools.cache
def _read_paths() -> list[str]:
    return [key for key, entry in settings().items() if entry.path and entry.result]


def describe_content(key: str, flat: Mapping[str, Any]) -> str:
    """What a key of the contents is, for messages: 'data_dir (/d/rte/train)'. `flat`: the run's settings."""
    setting, _, name = key.partition("/")
    held = "/".join(filter(None, (str(flat.get(setting, "")), name)))
    return f"{setting} ({held})" if held else setting


def settings_hash(config: RunConfig) -> str:
    """Hash of the settings that can change a result and are no defaults; paths as they are."""
    return _kept_hash(config, "_settings_hash", _hashed)


def hash_as_spelled(config: RunConfig, spelled: Mapping[str, Any]) -> str:
    """:func:`settings_hash` with some settings as somebody wrote them; runs that differ in the seed have the same."""
    if not spelled:
        return settings_hash(config)
    return _kept_hash(config, "_spelled_hash", lambda one: _counted({**cached_flat(one), **spelled}))


def _kept_hash(config: RunConfig, name: str, hashed: Callable[[RunConfig], Mapping[str, Any]]) -> str:
    """The hash of `hashed(config)`, kept with the config; JSON is written once for all of :func:`with_seed`."""
    own = vars(config)
    if name not in own:
        around = own.get("_around_seed")
        if around is None or config.seed == _counted_defaults()["seed"]:  # which would not be hashed
            text = _JSON(hashed(config))
        else:
            if name not in around:
                before, _, after = _JSON({**hashed(config), "seed": _SEED}).partition(f'"{_SEED}"')
                around[name] = before, after
            text = str(config.seed).join(around[name])
        own[name] = hashlib.sha256(text.encode()).hexdigest()[:10]
    return own[name]


_SEED = uuid.uuid4().hex  # no value of a setting is this text


def _hashed(config: RunConfig) -> dict[str, Any]:
    """What a signature holds of the config's own settings, kept with it. Not to be changed."""
    own = vars(config)
    if "_hashed" not in own:
        own["_hashed"] = _counted(cached_flat(config))
    return own["_hashed"]


def _counted(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What a signature holds of settings."""
    counted = {
        key: value
        for key, default in _counted_defaults().items()
        if (value := flat.get(key, default)) is not default and value != default
    }
    if counted.get("mixing") == "proportional":  # another name for it
        counted = {**counted, "temperature": 1.0}
        del counted["mixing"]
    return counted | precision_in_signature(flat)


_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
