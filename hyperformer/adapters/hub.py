"""Folders of trained models on the Hugging Face hub: fetching one, and pushing one there."""

from __future__ import annotations

from pathlib import Path

from hyperformer.errors import CheckpointError

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
TASKS_NAME = "tasks.yaml"
CARD_NAME = "README.md"
MODEL_WEIGHTS = "model*.safetensors"
MODEL_CONFIG = "config.json"

# What such a folder consists of; anything else that lies there stays there.
_OURS = [
    WEIGHTS_NAME, CONFIG_NAME, TASKS_NAME, CARD_NAME, MODEL_WEIGHTS, MODEL_CONFIG, "model.safetensors.index.json",
    "generation_config.json", "spiece.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",
]  # fmt: skip


def find_folder(name: str | Path) -> Path:
    """The local folder of a trained model: `name` itself, or a copy of that repository on the hub.

    Raises:
        CheckpointError: there is no such folder, and it cannot be fetched.
    """
    path = Path(name)
    if path.is_dir():
        return path
    parts = str(name).split("/")
    if path.exists() or len(parts) > 2 or "" in parts or str(name).startswith((".", "~")):
        raise CheckpointError(f"{name}: there is no such folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(str(name), allow_patterns=_OURS))
    except (OSError, HFValidationError) as error:
        raise CheckpointError(
            f"{name}: no folder of that name here, and it cannot be fetched from the Hugging Face hub: "
            f"{first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
