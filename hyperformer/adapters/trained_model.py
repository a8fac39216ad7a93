"""Whole models, in a folder with all weights of T5 and the adapters; and loading a trained model of either kind."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import T5Config

from hyperformer.adapter_folder import CONFIG_NAME, adapter_files
from hyperformer.adapters.bases.families import t5_values
from hyperformer.adapters.bases.pretrained import check_scale, check_shapes, quiet_transformers
from hyperformer.adapters.hub import CARD_NAME, MODEL_CONFIG, TASKS_NAME, find_folder
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.model_card import ModelCard
from hyperformer.adapters.record import is_peft_config, read_record
from hyperformer.adapters.save import load_adapter
from hyperformer.adapters.t5.config import HyperformerConfig, hyperformer_config, token_ids_only
from hyperformer.errors import CheckpointError, ConfigError
from hyperformer.files import apply_umask, flush, read_object
from hyperformer.settings.extras import check_extra
from hyperformer.settings.schema import AdapterConfig

TOKENIZER_FILES = (
    "spiece.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, from the folder of an adapter or of a whole model.

    Attributes:
        folder: where it was loaded from.
        is_adapter: whether `folder` holds an adapter alone.
        tokenizer_name: name or folder of its tokenizer.
        task_file: the user's own tasks, if it has any.
    """

    model: HyperformerT5
    folder: Path
    is_adapter: bool
    tokenizer_name: str
    task_file: Path | None


def load_trained(name: str | Path, base: str | None = None) -> TrainedModel:
    """Load an adapter or a whole model, from a folder or from a repository on the hub.

    Args:
        base: for an adapter, the T5 that it was trained on; for a whole model without a
            tokenizer, a T5 that has one.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    folder = find_folder(name)
    adapter_config = adapter_files(folder).config
    is_adapter = adapter_config.exists()
    if is_adapter and is_peft_config(adapter_config):
        model, tokenizer = _load_peft(folder, base)
    elif is_adapter:
        record = read_record(adapter_config)
        model = load_adapter(folder, base)
        tokenizer = record.tokenizer_name or base or record.base_model_name_or_path
    elif (folder / MODEL_CONFIG).exists():
        model = load_model(folder)
        tokenizer = base or str(folder)
    else:
        raise CheckpointError(
            f"{folder} holds neither an adapter ({CONFIG_NAME}) nor a whole model ({MODEL_CONFIG}); "
            "of a run, name its folder"
        )
    task_file = folder / TASKS_NAME
    return TrainedModel(model, folder, is_adapter, tokenizer, task_file if task_file.exists() else None)


def _load_peft(folder: Path, base: str | None) -> tuple[HyperformerT5, str]:
    try:
        check_extra("peft", f"{folder} is an adapter of peft: to read it needs the package peft")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    from hyperformer.adapters.peft_bridge.folder import read_peft_folder

    return read_peft_folder(folder, base)


def load_model(name: str | Path) -> HyperformerT5:
    """A whole model that `save_pretrained` wrote, ours or a plain T5. In float32, for inference.

    Missing or unknown weights are an error here; `from_pretrained` only warns of them.

    Raises:
        CheckpointError: files are missing or damaged, or weights do not fit the config.
    """
    folder = find_folder(name)
    config = _config(folder)
    try:
        with quiet_transformers():
            model, report = HyperformerT5.from_pretrained(
                folder, config=config, generation_config=token_ids_only(config), dtype=torch.float32,
                output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"the weights in {folder} cannot be loaded: {reason}") from error
    check_shapes(report, str(folder))
    for what, names in (("lack", report["missing_keys"]), ("have no place for", report["unexpected_keys"])):
        if names:
            hint = "; a checkpoint of the authors' code is made ours by 'hyperformer convert'"
            raise CheckpointError(
                f"{folder}: its weights and its {MODEL_CONFIG} do not fit: they {what} {len(names)} "
                f"({sorted(names)[0]!r}){hint if what.startswith('have') else ''}"
            )
    check_scale(model, str(folder))
    return model.eval()


def _config(folder: Path) -> HyperformerConfig:
    values = read_object(folder / MODEL_CONFIG, CheckpointError)
    kind = values.get("model_type")
    if kind == HyperformerConfig.model_type:
        return HyperformerConfig(**values)
    if not kind:
        raise CheckpointError(
            f"{folder} is no model: its {MODEL_CONFIG} has no model_type; wanted is a T5, with our adapters or "
            "without, or a run's folder"
        )
    return hyperformer_config(T5Config.from_dict(t5_values(values, str(folder))), AdapterConfig(), ())


def save_model(model: HyperformerT5, folder: Path, *, files_of: Path) -> None:
    """Write a whole model into `folder`, with its card, and the tokenizer and own tasks from `files_of`."""
    with quiet_transformers():
        model.save_pretrained(folder)
    copy_files(files_of, folder, (*TOKENIZER_FILES, TASKS_NAME))
    card = ModelCard(
        base=None,
        tasks=model.config.tasks or [],
        adapter=model.config.adapter_config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    (folder / CARD_NAME).write_text(card.text(), encoding="utf-8")
    for path in folder.iterdir():
        apply_umask(path)  # safetensors makes files that only their owner can read
        flush(path)


def copy_files(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Copy those of the named files that are in `source`."""
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
