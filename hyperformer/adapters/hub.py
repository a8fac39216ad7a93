"""What a trained model's folder consists of, and finding one: here, or on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from hyperformer.adapter_folder import (
    CONFIG_NAME,
    EARLIER_CONFIG,
    EARLIER_WEIGHTS,
    WEIGHTS_NAME,
    adapter_files,
)
from hyperformer.errors import CheckpointError
from hyperformer.hub_access import not_in_cache, why_offline

TASKS_NAME = "tasks.yaml"
PEFT_TASK_NAME = "hyperformer_task.json"
CARD_NAME = "README.md"
MODEL_WEIGHTS = "model*.safetensors"
MODEL_CONFIG = "config.json"

FOLDER_FILES = [
    WEIGHTS_NAME, CONFIG_NAME, EARLIER_WEIGHTS, EARLIER_CONFIG, TASKS_NAME, PEFT_TASK_NAME, CARD_NAME, MODEL_WEIGHTS,
    MODEL_CONFIG, "model.safetensors.index.json", "generation_config.json", "spiece.model", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
]  # fmt: skip
"""What such a folder consists of; other files in it are neither pushed nor fetched."""


def find_folder(name: str | Path) -> Path:
    """The local folder of a trained model: `name` itself, a run's adapter/, or a copy of that repository on the hub.

    Raises:
        CheckpointError: there is no such folder, and it cannot be fetched; or it is that of a run
            without an adapter, or of several runs.
    """
    path = Path(name)
    if path.is_dir():
        return path if adapter_files(path).config.exists() else _of_run(path)
    parts = str(name).split("/")
    if path.exists() or len(parts) > 2 or "" in parts or str(name).startswith((".", "~")):
        raise CheckpointError(f"{name}: there is no such folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    why_offline()
    try:
        return Path(snapshot_download(str(name), allow_patterns=FOLDER_FILES))
    except (OSError, HFValidationError) as error:
        raise CheckpointError(
            f"{name}: no folder of that name here, and it cannot be fetched from the Hugging Face hub: "
            f"{not_in_cache(error) or first_line(error)}"
        ) from error


def _of_run(path: Path) -> Path:
    """The adapter of a run's folder; a folder that is no run's is returned as it is."""
    adapter = path / "adapter"
    if adapter_files(adapter).config.exists():
        return adapter
    runs = [
        folder.name for folder in sorted(path.iterdir()) if adapter_files(folder / "adapter").config.exists()
    ]
    if (path / "state.json").exists():
        raise CheckpointError(
            f"{path} is the folder of a run that has no adapter yet: a run writes it when it ends; give the command of "
            "the run again to resume it"
        )
    if runs and not (path / MODEL_CONFIG).exists():
        raise CheckpointError(f"{path} holds several runs; name one of them: {', '.join(runs)}")
    return path


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
