"""Upload an adapter or a whole model to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from hyperformer.adapter_folder import CONFIG_NAME, WEIGHTS_NAME, adapter_files
from hyperformer.adapters.hub import FOLDER_FILES, MODEL_CONFIG, MODEL_WEIGHTS, first_line
from hyperformer.errors import CheckpointError, HyperformerError


def push(folder: str | Path, repository: str, *, private: bool = False) -> str:
    """Upload an adapter's or a whole model's folder to the hub; creates the repository if there is none.

    Args:
        repository: 'owner/name'.
        private: create it as private; an existing repository stays as it is.

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
    if not whole and not all(path.is_file() for path in adapter_files(folder)):
        raise CheckpointError(
            f"{folder} holds neither an adapter ({CONFIG_NAME} and {WEIGHTS_NAME}) nor a whole model "
            f"({MODEL_CONFIG} and model.safetensors); of a run, push its adapter/ folder"
        )
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

    try:
        api = HfApi()
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=address.repo_id, folder_path=folder, allow_patterns=FOLDER_FILES)
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
            f"{folder} was not pushed to {repository}: {first_line(error)}. If it asks for a login: "
            "run 'hf auth login', or set HF_TOKEN"
        ) from error
