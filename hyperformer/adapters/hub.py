"""Folders of trained models on the Hugging Face hub: fetching one, and pushing one there."""

from __future__ import annotations

from pathlib import Path

from hyperformer.errors import CheckpointError, HyperformerError

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
            f"{_first_line(error)}"
        ) from error


def push(folder: str | Path, repository: str, *, private: bool = False) -> str:
    """Upload an adapter's or a whole model's folder to the hub; makes the repository if need be.

    Args:
        repository: 'owner/name'.
        private: make it a private one (an existing one stays as it is).

    Returns:
        The repository's address.

    Raises:
        CheckpointError: the folder holds nothing to push.
        HyperformerError: the hub cannot be reached, or refuses.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder")
    whole = (folder / MODEL_CONFIG).is_file() and any(folder.glob(MODEL_WEIGHTS))
    if not whole and not ((folder / CONFIG_NAME).is_file() and (folder / WEIGHTS_NAME).is_file()):
        raise CheckpointError(
            f"{folder} holds neither an adapter ({CONFIG_NAME} and {WEIGHTS_NAME}) nor a whole model "
            f"({MODEL_CONFIG} and model.safetensors); of a run, push its adapter/ folder"
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, allow_patterns=_OURS)
        return str(address)
    except HFValidationError as error:
        raise HyperformerError(
            f"{repository!r} is no name of a repository; write owner/name: {error}"
        ) from error
    except OfflineModeIsEnabled as error:
        raise HyperformerError(
            f"{folder} was not pushed to {repository}: HF_HUB_OFFLINE is set, so the hub is not asked; "
            "unset it on a machine with network"
        ) from error
    except OSError as error:  # the hub's own errors, and the network's
        raise HyperformerError(
            f"{folder} was not pushed to {repository}: {_first_line(error)}. If it asks for a login: "
            "run 'hf auth login', or set HF_TOKEN"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
