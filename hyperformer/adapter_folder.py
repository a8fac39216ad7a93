"""The files of a trained adapter's folder, by name, and where they are in a run's. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

WEIGHTS_NAME = "hyperformer_adapter.safetensors"
CONFIG_NAME = "hyperformer_adapter.json"
# Earlier versions used peft's names, and peft took such a folder for its own. They are still read.
EARLIER_WEIGHTS, EARLIER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


class AdapterFiles(NamedTuple):
    """The two files of an adapter."""

    config: Path
    weights: Path


def adapter_files(folder: Path) -> AdapterFiles:
    """Where an adapter's files are in `folder`, which need not exist: today's names, or those of earlier versions."""
    earlier = AdapterFiles(folder / EARLIER_CONFIG, folder / EARLIER_WEIGHTS)
    today = AdapterFiles(folder / CONFIG_NAME, folder / WEIGHTS_NAME)
    return earlier if earlier.config.exists() and not today.config.exists() else today


def unfinished_run(files: AdapterFiles) -> Path | None:
    """The run that these are of, if it has not ended: it may replace them, and has no result. None: all is well."""
    run = files.config.parent.parent
    is_run = files.config.parent.name == "adapter" and (run / "config.json").exists()
    return run if is_run and not (run / "result.json").exists() else None


def trained_files(folder: Path) -> AdapterFiles | None:
    """The adapter's files in `folder`, which is an adapter's or a run's; None: it holds none."""
    places = (adapter_files(folder), adapter_files(folder / "adapter"))
    return next((files for files in places if files.config.exists()), None)
