"""What a user keeps of a run: the trained weights, small, and what they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from hyperformer.config import RunConfig
from hyperformer.files import flush, write_json

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"


def write_safetensors(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights; the file is whole or absent."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file(weights, temporary, metadata={"format": "pt"})
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def save_adapter(folder: Path, weights: dict[str, Tensor], model_config: Any, config: RunConfig) -> None:
    """Write the trained weights, and the settings and base model that they belong to, into `folder`.

    Args:
        weights: trained parameters by name (those of T5 that trained, layer norms say, included).
        model_config: the model's HyperformerConfig.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(weights, folder / WEIGHTS_NAME)
    write_json(
        folder / CONFIG_NAME,
        {
            "base_model_name_or_path": config.model.model_name_or_path,
            "variant": config.variant,
            "tasks": list(config.data.tasks),
            "task_prefix": config.task_prefix,
            "adapter_settings": model_config.adapter_settings,
        },
    )
