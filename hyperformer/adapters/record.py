"""``hyperformer_adapter.json``: what adapter weights belong to, and whether a T5 is the one they were trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any

import torch
from transformers import T5Config

from hyperformer.adapters.model import HyperformerT5
from hyperformer.errors import CheckpointError, ConfigError, nearest
from hyperformer.files import read_json, read_object
from hyperformer.settings.build import make_config
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import AdapterConfig
from hyperformer.settings.values import settings

FORMAT = 2
"""Raise it when today's code could not read the new folder. Format 1 has no `answer_settings`."""

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
        answer_settings: of :func:`answer_settings`; None: a folder of format 1 that lies in no run's.
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
    answer_settings: dict[str, Any] | None = None
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


def answer_settings(flat: Mapping[str, Any], *, tf32: bool) -> dict[str, Any]:
    """Those of a run's flat settings that decide how its evaluations answered.

    Args:
        tf32: whether float32 products were in TF32: the setting says only that they may be.
    """
    return {key: flat[key] for key, one in settings().items() if one.answers and key in flat} | {"tf32": tf32}


def _answer_settings_of_run(run: Path) -> dict[str, Any] | None:
    """The same of a run's folder, by its config.json and result.json; None: it is not that of a run that is done."""
    if not all((run / name).exists() for name in ("config.json", "result.json")):
        return None
    config, result = (read_object(run / name, CheckpointError) for name in ("config.json", "result.json"))
    # Versions before the setting did not use TF32.
    return answer_settings(config.get("settings", {}), tf32=result.get("numerics", {}).get("tf32", False))


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
    if values.get("format") == 1:
        of_run = _answer_settings_of_run(path.parent.parent) if path.parent.name == "adapter" else None
        values = {**values, "format": FORMAT, "answer_settings": of_run}
    if values.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: has format {values.get('format')!r}, and this version reads 1 and {FORMAT}: install the version "
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
        value, parts = getattr(record, key), typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if not isinstance(value, tuple(typing.get_origin(part) or part for part in parts)):
            raise CheckpointError(f"{path}: {key} is {value!r}, which it cannot be; save the adapter again")
    unknown = set(record.adapter_settings) - {field.name for field in dataclasses.fields(AdapterConfig)}
    if unknown:
        raise CheckpointError(f"{path}: adapter_settings: unknown setting {sorted(unknown)[0]!r}")
    try:
        make_config(record.answer_settings or {}, where=f"{path}: answer_settings")
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
