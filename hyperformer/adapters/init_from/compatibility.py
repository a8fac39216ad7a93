"""Whether a run can start from a trained one, as far as the record of the trained one tells. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hyperformer.adapters.init_from.rows import Rows, rows_to_start_from
from hyperformer.errors import ConfigError
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import AdapterConfig, RunConfig
from hyperformer.settings.values import settings

# They say which task has which row, or how new weights start, and not what an adapter computes.
_OTHER = ("adapters", "task_embeddings", "generator_init")


def compatible_rows(
    theirs: AdapterConfig, tasks: Sequence[str], is_random: bool, config: RunConfig
) -> list[int | None]:
    """See that a run's method is that of a trained one; returns the row of theirs that each of its rows starts from.

    Args:
        theirs, tasks: of the trained run; is_random: whether its T5 was initialised at random.
        config: of the run that starts from it.

    Raises:
        ConfigError: with the difference.
    """
    where = f"init_from {config.model.init_from}"
    other = _differences(theirs, config.adapter)
    if other:
        raise ConfigError(f"{where}: it was trained with another method: {', '.join(other)}")
    if is_random != config.model.random_init:
        base = "its T5 was initialised at random" if is_random else "its T5 was pre-trained"
        raise ConfigError(
            f"{where}: {base}, so this run's must be too: write random_init={str(is_random).lower()}"
        )
    if not METHODS[config.adapter.adapter].task_rows:
        return []
    try:
        return rows_to_start_from(
            Rows.of(config.adapter, config.data.tasks), Rows.of(theirs, tuple(tasks)), config.model.init_tasks
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _differences(theirs: AdapterConfig, ours: AdapterConfig) -> list[str]:
    """How the methods differ, in words, as far as the run's method uses a setting."""
    there, here = dataclasses.asdict(theirs), dataclasses.asdict(ours)
    if there["adapter"] != here["adapter"]:
        return [describe_difference("adapter", there, here)]
    used = [key for key in here if key not in _OTHER and settings()[key].is_used(here)]
    return [describe_difference(key, there, here) for key in used if there[key] != here[key]]


def describe_difference(key: str, there: dict[str, Any], here: dict[str, Any]) -> str:
    """A difference in words."""
    return f"{key} is {there[key]!r} there, {here.get(key)!r} here"
