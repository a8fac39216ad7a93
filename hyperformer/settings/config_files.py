"""Config files and ``key=value`` overrides -> :class:`~hyperformer.settings.schema.RunConfig`. Imports no torch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyperformer.errors import ConfigError, describe_decode_error, line_of, nearest
from hyperformer.settings import authors_format
from hyperformer.settings.build import make_config, overlay, with_local_names
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.shipped import ShippedFiles
from hyperformer.settings.values import settings
from hyperformer.settings.yaml_source import read_key_value

SHIPPED = Path(__file__).parent.parent / "configs"
CONFIGS = ShippedFiles("config file", ".json", (SHIPPED,), ("configs", "hyperformer/configs"))


class ConfigWarning(UserWarning):
    """A setting is accepted, but not to the letter."""


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Flat settings of a JSON config file, ours or the authors'.

    A key given twice keeps its last value, as every JSON reader has it, and
    warns; the authors' keys are translated by :mod:`hyperformer.settings.authors_format`.

    Raises:
        ConfigError: the file cannot be read, is no JSON object, or has an unknown key.
    """
    path = Path(path)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in items:
            if key in seen and seen[key] != value:
                _warn(
                    f"{path}: {key} is given twice ({seen[key]!r}, then {value!r}); the last one holds: {value!r}"
                )
            seen[key] = value
        return seen

    try:
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=pairs)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}, line {line_of(error)}: {describe_decode_error(error)}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number without end, brackets without end
        raise ConfigError(f"{path}: not JSON that can be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be one JSON object of settings, not a {type(values).__name__}")
    if authors_format.is_theirs(values):
        values, notes = authors_format.translate(values, str(path))
        for note in notes:
            _warn(f"{path}: {note}")
    return values


def parse_override(text: str) -> tuple[str, Any]:
    """``key=value`` -> (key, value). The value means what it means in a sweep file.

    Raises:
        ConfigError: no '=', an unknown key, or no value of YAML.
    """
    key, equals, value = text.partition("=")
    shown = _shown(text)
    key = key.strip().removeprefix("--")
    if not equals:
        raise ConfigError(f"argument {shown!r}: write settings as key=value, for example seed=2")
    if key not in settings():
        raise ConfigError(f"argument {shown!r}: unknown setting {key[:60]!r}{nearest(key, settings())}")
    return key, settings()[key].value_of(read_key_value(key, value, f"argument {shown!r}"))


def _shown(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config file `name` (path, or name of a shipped one) with ``key=value`` overrides on top."""
    path = CONFIGS.find(name)
    values = read_config_file(path)
    merged = with_local_names(overlay(values, dict(parse_override(text) for text in overrides)))
    try:
        return make_config(merged, where=str(path))
    except ConfigError:
        if not overrides:
            raise
        # Whose fault is it? The file's own comes first.
        make_config(values, where=str(path))
        return make_config(merged, where=f"arguments {' '.join(map(_shown, overrides))}")


def _warn(message: str) -> None:
    warnings.warn(message, ConfigWarning, stacklevel=3)
