"""Our settings -> the configs of peft (https://huggingface.co/docs/peft) for a T5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peft import (
    IA3Config,
    LoraConfig,
    PeftConfig,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    VeraConfig,
)
from torch import nn

from hyperformer.errors import ConfigError
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import AdapterConfig

# Of peft's two ways to give a prompt to an encoder-decoder, only this one trains all that it counts.
_ENCODER_ONLY = 1
_FEED_FORWARD = ("wi", "wi_0", "wi_1", "wo")


def peft_config(model: Any) -> PeftConfig:
    """A new config of peft for the method and the sizes of a HyperformerT5.

    Raises:
        ConfigError: `target_modules` has a name that this T5 does not have.
    """
    adapter: AdapterConfig = model.config.adapter_config
    return _MAKERS[adapter.adapter](adapter, model)


def targets(adapter: AdapterConfig, model: nn.Module) -> list[str]:
    """The names of T5's matrices that the method adapts; peft would take no notice of one that is nowhere."""
    wanted = adapter.target_modules or METHODS[adapter.adapter].targets
    there = sorted(
        {name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    )
    for name in wanted:
        if name not in there:
            raise ConfigError(
                f"target_modules: this T5 has no matrix {name!r}; it has {', '.join(there)} "
                "(a gated feed-forward, as in T5 v1.1, has wi_0 and wi_1 instead of wi)"
            )
    return list(wanted)


def _lora(adapter: AdapterConfig, model: Any) -> PeftConfig:
    return LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=adapter.lora_rank,
        lora_alpha=adapter.lora_alpha,
        lora_dropout=adapter.lora_dropout,
        target_modules=targets(adapter, model),
        use_dora=adapter.adapter == "dora",
    )


def _ia3(adapter: AdapterConfig, model: Any) -> PeftConfig:
    wanted = targets(adapter, model)
    return IA3Config(
        task_type="SEQ_2_SEQ_LM",
        target_modules=wanted,
        feedforward_modules=[name for name in wanted if name in _FEED_FORWARD],
    )


def _vera(adapter: AdapterConfig, model: Any) -> PeftConfig:
    return VeraConfig(task_type="SEQ_2_SEQ_LM", r=adapter.vera_rank, target_modules=targets(adapter, model))


def _prompt_tuning(adapter: AdapterConfig, model: Any) -> PeftConfig:
    return PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=adapter.virtual_tokens,
        prompt_tuning_init="SAMPLE_VOCAB",
        num_transformer_submodules=_ENCODER_ONLY,
    )


def _p_tuning(adapter: AdapterConfig, model: Any) -> PeftConfig:
    return PromptEncoderConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=adapter.virtual_tokens,
        encoder_hidden_size=adapter.prompt_hidden_dim or model.config.d_model,
        num_transformer_submodules=_ENCODER_ONLY,
    )


def _prefix_tuning(adapter: AdapterConfig, model: Any) -> PeftConfig:
    t5 = model.config
    return PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=adapter.virtual_tokens,
        prefix_projection=adapter.prefix_projection,
        encoder_hidden_size=adapter.prompt_hidden_dim or t5.d_model,
        # The prefix is of the decoder's keys and values, whose sizes peft takes for T5's width and the encoder's depth.
        num_layers=t5.num_decoder_layers,
        num_attention_heads=t5.num_heads,
        token_dim=t5.num_heads * t5.d_kv,
        num_transformer_submodules=2,
    )


_MAKERS: dict[str, Callable[[AdapterConfig, Any], PeftConfig]] = {
    "lora": _lora,
    "dora": _lora,
    "ia3": _ia3,
    "vera": _vera,
    "prefix_tuning": _prefix_tuning,
    "prompt_tuning": _prompt_tuning,
    "p_tuning": _p_tuning,
}
