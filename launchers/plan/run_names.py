"""The names of runs, and how a setting's value is written in them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from hyperformer.settings.schema import RunConfig

_SHORT = {
    "config": "",
    "reduction_factor": "rf",
    "learning_rate": "lr",
    "max_steps": "steps",
    "temperature": "t",
}


def value_text(value: Any) -> str:
    """A setting's value as people write it; numbers that differ have texts that differ."""
    if isinstance(value, list | tuple):
        return "+".join(map(str, value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


def run_name(config: RunConfig, differs: tuple[tuple[str, str], ...]) -> str:
    """'adapters-rte-rf16-seed2': variant, task of a single-task run, settings that differ."""
    parts = [config.variant, *config.data.tasks[:1]] if config.single_task else [config.variant]
    parts += [_shortened(f"{_SHORT.get(key, key)}{text}", 60) for key, text in differs if key != "seed"]
    seed = [f"seed{text}" for key, text in differs if key == "seed"]
    name = "-".join([_shortened("-".join(parts), 130), *seed])
    # The name becomes a folder's: nothing that a shell or a path would read otherwise.
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", name).lstrip(".-") or "run"


def _shortened(text: str, most: int) -> str:
    """`text`, or its beginning and a hash of it all, so that two long texts stay apart."""
    if len(text) <= most:
        return text
    return f"{text[: most - 9]}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"
