"""Converting checkpoint folders of the authors' code to ours and back. :mod:`reference` maps the weights.

Theirs: ``config.json`` (T5's settings), ``pytorch_model.bin`` or ``model.safetensors`` (their
parameter names), perhaps a tokenizer. Which adapters it has is only in the JSON that it was
trained with. Ours: a whole model (:mod:`hyperformer.adapters.trained_model`), complete in itself.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor
from transformers import T5Config

from hyperformer.adapters.hub import MODEL_CONFIG
from hyperformer.adapters.model import HyperformerT5, new_model
from hyperformer.adapters.record import plain_settings
from hyperformer.adapters.reference import CROSS_BIAS, load_reference_state_dict, reference_state_dict
from hyperformer.adapters.save import read_safetensors
from hyperformer.adapters.t5.config import HyperformerConfig, hyperformer_config
from hyperformer.adapters.trained_model import (
    TOKENIZER_FILES,
    copy_files,
    load_model,
    save_model,
)
from hyperformer.errors import CheckpointError, ConfigError
from hyperformer.files import flush, new_folder, read_object, write_json
from hyperformer.settings.build import make_config
from hyperformer.settings.config_files import ConfigWarning, read_config_file
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.values import settings

BINARY, SAFETENSORS = "pytorch_model.bin", "model.safetensors"
# T5 keeps one matrix under these names; a safetensors file holds it once.
_EMBEDDINGS = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_HEAD = "lm_head.weight"
_OURS = (
    "adapter_settings", "tasks", "cross_attention_bias", "relative_bias_per_layer", "task_prefix", "max_source_length",
)  # fmt: skip


def from_theirs(checkpoint: Path, settings: Path, output: Path) -> HyperformerT5:
    """Convert a checkpoint folder of the authors' code to a whole model of ours.

    Args:
        checkpoint: their folder.
        settings: the JSON file of their training (its keys theirs, or ours).
        output: the folder to make.

    Returns:
        The model that was written.

    Raises:
        ConfigError: the settings are wrong.
        CheckpointError: a file is missing or damaged, or the weights do not fit the settings.
    """
    theirs = read_object(checkpoint / MODEL_CONFIG, CheckpointError)
    if theirs.get("model_type", "t5") != "t5":
        raise CheckpointError(
            f"{checkpoint} is a {theirs['model_type']} model; wanted is a T5 of the authors' code"
        )
    config = _settings(settings)
    weights = _read_weights(checkpoint)
    kind = _one_type(weights, checkpoint)
    ours = hyperformer_config(T5Config(**theirs), config.adapter, config.data.tasks)
    ours.adapter_settings = plain_settings(config.adapter)
    ours.task_prefix, ours.max_source_length = config.task_prefix, config.data.max_source_length
    ours.cross_attention_bias = CROSS_BIAS in weights
    model = new_model(ours)
    weights = _with_tied(weights, ours, checkpoint)
    try:
        load_reference_state_dict(model, weights)
    except CheckpointError as error:
        raise CheckpointError(
            f"{checkpoint} does not fit the settings in {settings}: {error}. Give the JSON that it was trained with"
        ) from error
    model = model.to(kind).eval()
    with new_folder(output) as folder:
        save_model(model, folder, files_of=checkpoint)
    return model


def to_theirs(ours: Path, output: Path) -> None:
    """Convert a whole model of ours to a checkpoint folder that the authors' code loads.

    Raises:
        CheckpointError: it cannot be loaded, or `output` is there already.
    """
    saved = read_object(ours / MODEL_CONFIG, CheckpointError)
    kind = getattr(torch, str(saved.get("dtype") or "float32"))
    model = load_model(ours)
    if model.config.relative_bias_per_layer:
        raise CheckpointError(f"{ours} is an umT5: the authors' code has no position bias in every layer")
    weights = {name: value.to(kind).contiguous() for name, value in reference_state_dict(model).items()}
    values = model.config.to_diff_dict()
    values = {key: value for key, value in values.items() if key not in _OURS}
    # transformers keeps their `tie_word_embeddings: false` as this.
    tied = values.pop("scale_decoder_outputs", True)
    if tied is model.has_own_lm_head:
        raise CheckpointError(
            f"{ours}: its output layer is {'its own' if tied else 'tied'} and its logits are {'' if tied else 'not '}"
            "scaled: the authors' code has no such T5"
        )
    values |= {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "tie_word_embeddings": tied,
    }
    with new_folder(output) as folder:
        write_json(folder / MODEL_CONFIG, values)
        torch.save(weights, folder / BINARY)
        flush(folder / BINARY)
        copy_files(ours, folder, TOKENIZER_FILES)


def _settings(path: Path) -> RunConfig:
    """The run's settings from its JSON; task maps that its adapter does not use are dropped, as in their code."""
    values = read_config_file(path)
    kind = values.get("adapter", "none")
    for key in ("adapters", "task_embeddings"):
        if values.get(key) is not None and not settings()[key].is_used(values):
            warnings.warn(f"{path}: {key} has no effect with adapter={kind}", ConfigWarning, stacklevel=2)
            del values[key]
    config = make_config(values, where=str(path))
    if not config.data.tasks:
        raise ConfigError(f"{path}: tasks is missing, and the adapters belong to tasks")
    return config


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Their weights by name, and nothing else."""
    if (folder / SAFETENSORS).exists():
        return read_safetensors(folder / SAFETENSORS)
    path = folder / BINARY
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has neither {BINARY} nor {SAFETENSORS}") from None
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is damaged, cut short, or holds more than weights: {reason}"
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path} is no model's weights by name")
    return weights


def _one_type(weights: dict[str, Tensor], folder: Path) -> torch.dtype:
    kinds = {value.dtype for value in weights.values()}
    if len(kinds) != 1 or not next(iter(kinds)).is_floating_point:
        raise CheckpointError(
            f"{folder}: its weights have the types {sorted(map(str, kinds))}; one was expected"
        )
    return kinds.pop()


def _with_tied(weights: dict[str, Tensor], config: HyperformerConfig, folder: Path) -> dict[str, Tensor]:
    """`weights` with T5's tied matrix under all of its names, where its values do not differ between them."""
    names = [*_EMBEDDINGS, _HEAD] if config.scale_decoder_outputs else list(_EMBEDDINGS)
    there = [name for name in names if name in weights]
    for name in there[1:]:
        if not torch.equal(weights[there[0]], weights[name]):
            raise CheckpointError(
                f"{folder}: {there[0]!r} and {name!r} differ, and T5 has one matrix for both "
                f"(tie_word_embeddings is {json.dumps(config.scale_decoder_outputs)} in its {MODEL_CONFIG})"
            )
    return {**weights, **{name: weights[there[0]] for name in names if there}}
