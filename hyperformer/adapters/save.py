"""Saving what a run trained (small), with a record of what it belongs to; and loading it onto a T5.

An adapter's folder: ``hyperformer_adapter.safetensors`` (the adapters, and what was trained of
T5), ``hyperformer_adapter.json`` (:class:`AdapterRecord`), a model card, and ``tasks.yaml`` if
the run had tasks of the user's own.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hyperformer.adapter_folder import CONFIG_NAME, WEIGHTS_NAME, AdapterFiles, adapter_files
from hyperformer.adapters.bases.pretrained import load_base, load_t5_config
from hyperformer.adapters.hub import CARD_NAME, TASKS_NAME, find_folder
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.model_card import ModelCard
from hyperformer.adapters.record import (
    AdapterRecord,
    answer_settings,
    base_sizes,
    check_sizes,
    check_weights,
    plain_settings,
    read_record,
)
from hyperformer.adapters.t5.config import HyperformerConfig, hyperformer_config
from hyperformer.errors import CheckpointError, nearest
from hyperformer.files import apply_umask, atomic_write, file_digest, flush, write_json
from hyperformer.settings.build import flatten
from hyperformer.settings.schema import RunConfig


def write_safetensors(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights, atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        save_file(weights, temporary, metadata={"format": "pt"})
        apply_umask(temporary)  # safetensors makes files that only their owner can read
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All weights of a file, on the CPU.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short: {error}; copy or download it again"
        ) from error


def run_record(
    config: RunConfig, model_config: HyperformerConfig, fingerprint: str | None, *, tf32: bool
) -> AdapterRecord:
    """What the adapter of a run belongs to.

    Args:
        fingerprint: :func:`~hyperformer.adapters.record.base_fingerprint` of T5 before training;
            None if it was initialised at random.
        tf32: as in :func:`~hyperformer.adapters.record.answer_settings`.
    """
    return AdapterRecord(
        base_model_name_or_path=config.model.model_name_or_path,
        base_sizes=base_sizes(model_config),
        base_fingerprint=fingerprint,
        tokenizer_name=config.model.tokenizer_name,
        variant=config.variant,
        tasks=list(config.data.tasks),
        task_prefix=config.task_prefix,
        max_source_length=config.data.max_source_length,
        adapter_settings=plain_settings(model_config.adapter_config),
        weights_sha256="",
        answer_settings=answer_settings(flatten(config), tf32=tf32),
    )


def write_adapter(
    folder: Path,
    weights: dict[str, Tensor],
    record: AdapterRecord,
    *,
    task_file: str | Path | None = None,
    result: dict[str, Any] | None = None,
) -> None:
    """Write an adapter's folder, each file atomically.

    Args:
        weights: by name: all of the adapters, and what was trained of T5 (its layer norms, for
            example); all of T5 if it was initialised at random.
        record: its `weights_sha256` is filled in here.
        task_file: the user's own tasks, copied into the folder.
        result: content of result.json, for the model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(weights, folder / WEIGHTS_NAME)
    if task_file is not None:
        with atomic_write(folder / TASKS_NAME, "wb") as stream:
            stream.write(Path(task_file).read_bytes())
    card = ModelCard(
        base=record.base_model_name_or_path,
        tasks=record.tasks,
        adapter=record.adapter,
        parameters=sum(weight.numel() for weight in weights.values()),
        variant=record.variant,
        result=result,
    )
    with atomic_write(folder / CARD_NAME) as stream:
        stream.write(card.text())
    record = dataclasses.replace(record, weights_sha256=file_digest(folder / WEIGHTS_NAME))
    write_json(folder / CONFIG_NAME, dataclasses.asdict(record))


def load_adapter(name: str | Path, base: str | None = None) -> HyperformerT5:
    """The model of an adapter's folder: its T5, and what was trained on top. In float32, for inference.

    Args:
        name: the folder, or a repository on the Hugging Face hub.
        base: folder or hub name of the T5 that the adapter was trained on; default: the name in
            the adapter's record.

    Raises:
        CheckpointError: a file is missing, damaged or does not fit the others; or the T5 is another.
    """
    files = adapter_files(find_folder(name))
    record = read_record(files.config)
    weights = read_safetensors(files.weights)
    base = base or record.base_model_name_or_path
    t5 = load_t5_config(base)
    check_sizes(record, t5, base)
    config = hyperformer_config(t5, record.adapter, tuple(record.tasks))
    config.task_prefix, config.max_source_length = record.task_prefix, record.max_source_length
    config.answer_settings = record.answer_settings
    if record.base_fingerprint is None:
        model = HyperformerT5(config)
        if "lm_head.weight" in weights:
            model.untie_lm_head()
    else:
        model = load_base(base, config)
        check_weights(record, model, base)
    model.method.wrap(model)
    _copy_weights(model, weights, record, files)
    return model.eval()


def _copy_weights(
    model: HyperformerT5, weights: dict[str, Tensor], record: AdapterRecord, files: AdapterFiles
) -> None:
    """Copy an adapter's weights into the model, if they and the file are what they should be."""
    path = files.weights
    ours = dict(model.named_parameters())
    for name, weight in weights.items():
        if name not in ours:
            raise CheckpointError(f"{path}: {name!r} has no place in this model{nearest(name, ours)}")
        if weight.shape != ours[name].shape:
            raise CheckpointError(
                f"{path}: {name!r} has shape {tuple(weight.shape)}, "
                f"and {files.config.name} asks for {tuple(ours[name].shape)}"
            )
    # The base model has the weights of T5 that were not trained; the adapters' are in this file only.
    missing = sorted(
        name
        for name in ours
        if name not in weights and (record.base_fingerprint is None or model.method.t5_name(name) is None)
    )
    if missing:
        raise CheckpointError(f"{path}: {missing[0]!r} is missing ({len(missing)} weights in all)")
    check_hash(record, files)
    with torch.no_grad():
        for name, weight in weights.items():
            ours[name].copy_(weight)


def check_hash(record: AdapterRecord, files: AdapterFiles) -> None:
    """See that the weights are those that the record was written for.

    Raises:
        CheckpointError: they are not.
    """
    if file_digest(files.weights) != record.weights_sha256:
        raise CheckpointError(
            f"{files.weights} is not the file that {files.config.name} was written for (its hash differs): "
            "copy both again"
        )
