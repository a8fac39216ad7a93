"""``hyperformer_adapter.json``: what adapter weights belong to, and whether a T5 is the one they were trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import T5Config

from hyperformer.adapters.model import HyperformerT5
from hyperformer.errors import CheckpointError, ConfigError, nearest
from hyperformer.files import read_json
from hyperformer.settings.build import make_config
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import AdapterConfig

FORMAT = 1
"""Raise it when today's code could not read the new folder."""

# Settings of T5 that decide its weights' names, shapes and meaning.
_SIZES = (
    "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_decoder_layers", "num_heads", "feed_forward_proj",
    "relative_attention_num_buckets", "relative_attention_max_distance", "tie_word_embeddings", "scale_decoder_outputs",
)  # fmt: skip
# Values read of each weight: enough to tell any two trained models apart, and quick.
_SAMPLED = 4096


@dataclass(frozen=True)
class AdapterRecord:
    """The content of an adapter's config file.

    Attributes:
        base_model_name_or_path: the base T5, as the run named it.
        base_sizes: that T5's sizes.
        base_fingerprint: hash of that T5's weights; None if the folder holds all weights itself,
            because that T5 was not loaded but initialised at random.
        tokenizer_name: if it is not the base model's.
        variant: name of the tuning method.
        tasks: in the order of `task_ids`.
        task_prefix: whether sources start with the task's name.
        max_source_length: source tokens kept.
        adapter_settings: values of AdapterConfig.
        weights_sha256: hash of the weights' file.
    """

    base_model_name_or_path: str
    base_sizes: dict[str, Any]
    base_fingerprint: str | None
    tokenizer_name: str | None
    variant: str
    tasks: list[str]
    task_prefix: bool
    max_source_length: int
    adapter_settings: dict[str, Any]
    weights_sha256: str
    format: int = FORMAT

    @property
    def adapter(self) -> AdapterConfig:
        """The adapter settings, checked."""
        return make_config({**self.adapter_settings, "tasks": self.tasks}, where="adapter_settings").adapter


def plain_settings(adapter: AdapterConfig) -> dict[str, Any]:
    """Adapter settings as JSON has them."""
    names = {field.name for field in dataclasses.fields(AdapterConfig)}
    values = {name: getattr(adapter, name) for name in names}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in sorted(values.items())}


def is_peft_config(path: Path) -> bool:
    """Whether an adapter's config file is one of peft, and not ours."""
    try:
        values = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "peft_type" in values


def read_record(path: Path) -> AdapterRecord:
    """Read and check an adapter's config file.

    Raises:
        CheckpointError: it is missing, damaged, or not ours; the message names what is wrong.
    """
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    if values is None:
        raise CheckpointError(f"{path} is missing: name a folder that holds an adapter, or a whole model")
    if not isinstance(values, dict) or "adapter_settings" not in values:
        raise CheckpointError(f"{path}: not the config of one of our adapters")
    if values.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: has format {values.get('format')!r}, and this version reads {FORMAT}: install the version "
            "of hyperformer that wrote it"
        )
    known = {field.name for field in dataclasses.fields(AdapterRecord)}
    for key in values:
        if key not in known:
            raise CheckpointError(f"{path}: unknown key {key!r}{nearest(key, known)}")
    missing = sorted(known - set(values))
    if missing:
        raise CheckpointError(f"{path}: {', '.join(missing)} missing; save the adapter again")
    record = AdapterRecord(**values)
    _check(record, path)
    return record


def _check(record: AdapterRecord, path: Path) -> None:
    for key, hint in typing.get_type_hints(AdapterRecord).items():
        value, kind = getattr(record, key), typing.get_origin(hint)
        if not isinstance(value, kind if kind in (dict, list) else hint):
            raise CheckpointError(f"{path}: {key} is {value!r}, which it cannot be; save the adapter again")
    unknown = set(record.adapter_settings) - {field.name for field in dataclasses.fields(AdapterConfig)}
    if unknown:
        raise CheckpointError(f"{path}: adapter_settings: unknown setting {sorted(unknown)[0]!r}")
    try:
        adapter = make_config({**record.adapter_settings, "tasks": record.tasks}, where=str(path)).adapter
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    if not record.tasks and METHODS[adapter.adapter].knows_task:
        raise CheckpointError(f"{path}: tasks is empty, and adapters belong to tasks")


def base_sizes(config: T5Config) -> dict[str, Any]:
    """The sizes of a T5 that its adapters depend on."""
    return {name: getattr(config, name) for name in _SIZES}


def base_fingerprint(model: HyperformerT5) -> str:
    """Hash of T5's weights without adapters: of 4,096 values of each, in float32.

    Take it before training, and before an engine partitions the weights over ranks.
    """
    found = hashlib.sha256()
    for name, parameter in model.named_parameters():
        plain = model.method.t5_name(name)
        if plain is not None:
            values = parameter.detach().flatten()
            values = (
                values[:: max(1, len(values) // _SAMPLED)][:_SAMPLED].to("cpu", torch.float32).contiguous()
            )
            found.update(f"{plain} {tuple(parameter.shape)}\n".encode())
            found.update(values.numpy().tobytes())
    return found.hexdigest()


def check_sizes(record: AdapterRecord, t5: T5Config, name: str) -> None:
    """Check, before its weights are loaded, that a T5 has the sizes of the one the adapter was trained on.

    Raises:
        CheckpointError: it has not.
    """
    there = base_sizes(t5)
    other = [
        f"{key} {value!r} (not {there.get(key)!r})"
        for key, value in record.base_sizes.items()
        if there.get(key) != value
    ]
    if other:
        raise CheckpointError(
            f"the adapter was trained on {record.base_model_name_or_path!r} and does not fit {name!r}: "
            f"it needs a T5 with {', '.join(other)}"
        )


def check_weights(record: AdapterRecord, model: HyperformerT5, name: str) -> None:
    """Check that T5's weights are those that the adapter was trained on.

    Raises:
        CheckpointError: they are not.
    """
    if record.base_fingerprint is not None and base_fingerprint(model) != record.base_fingerprint:
        raise CheckpointError(
            f"the adapter was trained on {record.base_model_name_or_path!r}; {name!r} has the same sizes but other "
            "weights, and the adapter's answers would be wrong on it. Give the T5 that it was trained on"
        )
