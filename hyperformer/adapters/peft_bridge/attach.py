"""peft's adapters inside a HyperformerT5, so that every other part of the package sees one kind of model.

lora, dora, ia3 and vera: peft replaces T5's layers by its own. Prompts and prefixes: peft makes them, and hooks
put them where peft's own forward and generate put them. A test holds that both give the same logits.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftConfig, PeftModelForSeq2SeqLM, PeftType
from torch import Tensor, nn

from hyperformer.adapters.t5.task_ids import one_of, task_numbers

HANDLE = "_peft"
"""The attribute of a model that has its PeftModel. It is not a submodule: that would be a circle."""

Kwargs = dict[str, Any]


def attach(model: Any, configs: dict[str, PeftConfig]) -> PeftModelForSeq2SeqLM:
    """Give a HyperformerT5 new adapters.

    Args:
        configs: of each adapter by its name; all are of one type. The first is active.

    Returns:
        peft's model of it, whose `base_model` it is.
    """
    (first, config), *others = configs.items()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that it will lose
        handle = PeftModelForSeq2SeqLM(model, config, first)
        for name, other in others:
            handle.add_adapter(name, other)
    for stack in (model.encoder, model.decoder):
        stack.register_forward_pre_hook(SelectHook(model), with_kwargs=True)
    hold(model, handle)
    return handle


def hold(model: Any, handle: PeftModelForSeq2SeqLM) -> None:
    """Keep the model's PeftModel, and hook its prompts to T5."""
    object.__setattr__(model, HANDLE, handle)
    config = handle.active_peft_config
    if config.peft_type == PeftType.VERA:
        model.encoder.register_forward_pre_hook(ProjectionHook(model), with_kwargs=True)
    if not config.is_prompt_learning:
        return
    model.prompt_encoder = handle.prompt_encoder
    if config.peft_type == PeftType.PREFIX_TUNING:
        model.decoder.register_forward_pre_hook(PrefixHook(model), with_kwargs=True)
    else:
        model.encoder.register_forward_pre_hook(PromptHook(model), with_kwargs=True)
        model.decoder.register_forward_pre_hook(PromptMaskHook(model), with_kwargs=True)


def activate(model: nn.Module, adapter: str) -> None:
    """Make an adapter the one that computes. What trains stays as it is: peft would freeze the others."""
    handle: PeftModelForSeq2SeqLM = getattr(model, HANDLE)
    if handle.active_adapter == adapter:
        return
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    handle.set_adapter(adapter)
    for parameter, flag in flags:
        parameter.requires_grad = flag


class SelectHook:
    """Before a stack runs: the task that a direct call of it names."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, _stack: nn.Module, args: tuple, kwargs: Kwargs) -> tuple[tuple, Kwargs]:
        task = one_of(kwargs.pop("task", None), kwargs.pop("task_ids", None))
        if task is not None:
            self.model.method.select(self.model, task_numbers(self.model.config.tasks, task, None))
        return args, kwargs


class ProjectionHook:
    """Before the encoder: VeRA's fixed matrices in T5's number format. An engine casts parameters only."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, encoder: Any, args: tuple, kwargs: Kwargs) -> tuple[tuple, Kwargs]:
        tuner, dtype = getattr(self.model, HANDLE).base_model, encoder.embed_tokens.weight.dtype
        for matrices in (tuner.vera_A, tuner.vera_B):
            for name, matrix in list(matrices.items()):
                if matrix.dtype != dtype:
                    matrices[name] = matrix.to(dtype)
        return args, kwargs


class PromptHook:
    """Before the encoder: the prompt in front of the source."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, encoder: Any, args: tuple, kwargs: Kwargs) -> tuple[tuple, Kwargs]:
        embeds, mask = kwargs.get("inputs_embeds"), kwargs.get("attention_mask")
        if embeds is None:
            embeds = encoder.embed_tokens((*args, kwargs.get("input_ids"))[0])
        # A user's own config may count a prompt for the decoder too, which peft makes and does not use.
        prompt = (
            getattr(self.model, HANDLE).get_prompt(len(embeds))[:, : _virtual_tokens(self.model)].to(embeds)
        )
        if mask is not None:
            kwargs["attention_mask"] = _longer(mask, prompt.shape[1])
        return (), {**kwargs, "input_ids": None, "inputs_embeds": torch.cat([prompt, embeds], dim=1)}


class PromptMaskHook:
    """Before the decoder: the mask of the source is as long as the prompt and the source."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, _decoder: nn.Module, args: tuple, kwargs: Kwargs) -> tuple[tuple, Kwargs]:
        mask, tokens = kwargs.get("encoder_attention_mask"), _virtual_tokens(self.model)
        if mask is not None and kwargs["encoder_hidden_states"].shape[1] == mask.shape[1] + tokens:
            kwargs["encoder_attention_mask"] = _longer(mask, tokens)
        return args, kwargs


class PrefixHook:
    """Before the decoder: the prefix in its cache, unless the cache has it from an earlier token."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, _decoder: nn.Module, args: tuple, kwargs: Kwargs) -> tuple[tuple, Kwargs]:
        handle = getattr(self.model, HANDLE)
        cache, mask = kwargs.get("past_key_values"), kwargs.get("attention_mask")
        if mask is not None:
            kwargs["attention_mask"] = _longer(mask, _virtual_tokens(self.model))
        if cache is None or not cache.get_seq_length():
            tokens = next(
                t for t in (*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds")) if t is not None
            )
            prefix = handle.get_prompt(len(tokens))
            if cache is None:
                kwargs["past_key_values"] = prefix
            else:
                for number, layer in enumerate(prefix.self_attention_cache.layers):
                    cache.self_attention_cache.update(layer.keys, layer.values, number)
        return args, kwargs


def _virtual_tokens(model: Any) -> int:
    return getattr(model, HANDLE).active_peft_config.num_virtual_tokens


def _longer(mask: Tensor, tokens: int) -> Tensor:
    """A mask (B, S) with `tokens` more that are seen, in front."""
    return torch.cat([mask.new_ones(len(mask), tokens), mask], dim=1)


def adapter_names(rows: Sequence[str]) -> list[str]:
    """peft's name of each adapter. A task's own name may hold what a module's cannot."""
    return [f"adapter{number}" for number in range(len(rows))]
