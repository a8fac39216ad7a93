"""The signature: what identifies a run by all that can change its result. Imports no torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hyperformer.settings.build import kept_flat
from hyperformer.settings.precision import precision_in_signature
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.values import settings


def with_contents(config: RunConfig, contents: Mapping[str, str]) -> RunConfig:
    """The same settings with other contents of the files that they name."""
    changed = dataclasses.replace(config, contents=contents)
    vars(changed).update(_flat=kept_flat(config), _told=_told(config), _settings_hash=settings_hash(config))
    return changed


@functools.cache
def _counted_defaults() -> dict[str, Any]:
    """The defaults of the settings that a signature holds as they are."""
    table, defaults = settings(), kept_flat(RunConfig())
    return {key: defaults[key] for key in table if table[key].result and key != "zero_stage"}


def signature(config: RunConfig) -> str:
    """Hash of everything that can change the run's result, and of nothing else: 10 hex digits.

    Of a file or folder whose content is known, the content counts and not the path. A setting
    that keeps its default is left out, so that a later version that adds a setting does not
    rename the runs of an earlier one.
    """
    if config.known_as is not None:
        return config.known_as
    contents = config.contents or {}
    if not contents:
        return settings_hash(config)
    known = {key.partition("/")[0] for key in contents}
    told = {key: value for key, value in _told(config).items() if key not in known}
    held = {key: value for key, value in contents.items() if value}
    return _digest({**told, "contents": held} if held else told)


def unread(config: RunConfig) -> list[str]:
    """Settings that name a file or folder which the run reads, and whose content is not known."""
    flat, known = kept_flat(config), {key.partition("/")[0] for key in config.contents or {}}
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
    """:func:`hash_settings` of the config's own settings, paths as they are, kept with it."""
    own = vars(config)
    if "_settings_hash" not in own:
        own["_settings_hash"] = _digest(_told(config))
    return own["_settings_hash"]


def hash_settings(flat: Mapping[str, Any]) -> str:
    """Hash of the flat values that can change a result and are no defaults; other keys always count."""
    others = {key: value for key, value in flat.items() if key not in settings()}
    return _digest(_counted(flat) | others)


def _told(config: RunConfig) -> dict[str, Any]:
    """What a signature holds of the config's own settings, kept with it. Not to be changed."""
    own = vars(config)
    if "_told" not in own:
        own["_told"] = _counted(kept_flat(config))
    return own["_told"]


def _counted(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What a signature holds of settings."""
    told = {
        key: value
        for key, default in _counted_defaults().items()
        if (value := flat.get(key, default)) is not default and value != default
    }
    if told.get("mixing") == "proportional":  # another name for it
        told = {**told, "temperature": 1.0}
        del told["mixing"]
    return told | precision_in_signature(flat)


def _digest(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(_JSON(told).encode()).hexdigest()[:10]


_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
