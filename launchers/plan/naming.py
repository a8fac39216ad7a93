"""Names of runs: readable, made of what differs."""

from __future__ import annotations

import re
from typing import Any

from hyperformer.settings.schema import RunConfig

_SHORT = {"reduction_factor": "rf", "learning_rate": "lr", "max_steps": "steps", "temperature": "t"}


def value_text(value: Any) -> str:
    """A setting's value as people write it."""
    if isinstance(value, list | tuple):
        return "+".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_name(config: RunConfig, differs: tuple[tuple[str, str], ...]) -> str:
    """'adapters-rte-rf16-seed2': variant, task of a single-task run, settings that differ."""
    parts = [config.variant, *config.data.tasks[:1]] if config.single_task else [config.variant]
    parts += [f"{_SHORT.get(key, key)}{text}"[:60] for key, text in differs]
    # The name becomes a folder's: nothing that a shell or a path would read otherwise.
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", "-".join(parts))[:150].lstrip(".-") or "run"
