"""Building a model from a run's settings: the T5 with its adapters, and what trains."""

from __future__ import annotations

import dataclasses

import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5LayerNorm

from hyperformer.adapters.bases.pretrained import load_base, load_t5_config
from hyperformer.adapters.model import HyperformerT5, new_model
from hyperformer.adapters.t5.config import hyperformer_config
from hyperformer.errors import ConfigError
from hyperformer.settings.schema import ModelConfig, RunConfig


def build_model(config: RunConfig, t5: T5Config | None = None) -> HyperformerT5:
    """The model of a run, its weights loaded and `requires_grad` final.

    Args:
        t5: build from this config with random weights (for counting and tests).

    Raises:
        CheckpointError: T5 cannot be loaded.
        ConfigError: the settings leave nothing to train, or fit no adapter.
    """
    random_init = t5 is not None or config.model.random_init
    t5 = t5 or load_t5_config(config.model.model_name_or_path)
    if config.model.dropout is not None:
        t5.dropout_rate = config.model.dropout
    ours = hyperformer_config(t5, config.adapter, config.data.tasks)
    model = new_model(ours) if random_init else load_base(config.model.model_name_or_path, ours)
    model.method.wrap(model)
    mark_trained(model, config.model)
    if config.model.attn_implementation:
        model.set_attn_implementation(config.model.attn_implementation)
    if config.training.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def mark_trained(model: HyperformerT5, config: ModelConfig) -> None:
    """Set `requires_grad` once, by the authors' rules and in their order.

    What the method adds trains, and T5 itself if the method says so. Then the `freeze_*` and
    `unfreeze_*` settings apply in turn, each to the result of the ones before.

    Raises:
        ConfigError: nothing is left to train.
    """

    def train(module: torch.nn.Module, value: bool) -> None:
        module.requires_grad_(value)

    train(model, model.method.trains_t5)
    for name, parameter in model.named_parameters():
        if model.method.t5_name(name) is None:
            parameter.requires_grad_(True)
    if config.freeze_model:
        train(model, False)
    if config.freeze_model_but_lm_head:
        train(model, False)
        train(model.lm_head, True)
    if config.freeze_embeds:
        train(model.shared, False)
    if config.freeze_encoder:
        train(model.encoder, False)
        for module in model.method.encoder_modules(model):
            train(module, False)
    if config.freeze_model_but_task_embeddings:
        train(model, False)
        if model.adapters is not None and model.adapters.task_embeddings is not None:
            model.adapters.task_embeddings.weight.requires_grad_(True)
    if config.unfreeze_lm_head:
        train(model.lm_head, True)
    if config.unfreeze_layer_norms:
        for module in model.modules():
            if isinstance(module, T5LayerNorm):
                train(module, True)
    if config.unfreeze_model:
        train(model, True)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        chosen = [
            key for key, value in dataclasses.asdict(config).items() if key.startswith("freeze") and value
        ]
        raise ConfigError(
            f"{', '.join(chosen)}: nothing is left to train; unfreeze_layer_norms=true would be something"
        )
