"""Position biases that stock T5 lacks: of the authors' cross-attention, and of each layer as in umT5."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init


def add_cross_attention_bias(model: Any) -> None:
    """Give the decoder's first cross-attention the position bias that it had in transformers 3, as zeros."""
    attention = model.decoder.block[0].layer[1].EncDecAttention
    bias = nn.Embedding(attention.relative_attention_num_buckets, attention.n_heads)
    nn.init.zeros_(bias.weight)
    attention.relative_attention_bias = bias
    attention.register_forward_pre_hook(CrossAttentionBias(), with_kwargs=True)


def add_bias_per_layer(model: Any) -> None:
    """Give every self-attention a position bias of its own, with random weights; in T5 the first layer's serves all."""
    std = model.config.initializer_factor * model.config.d_model**-0.5  # as that of the first layer
    for block in (*model.encoder.block[1:], *model.decoder.block[1:]):
        attention = block.layer[0].SelfAttention
        bias = nn.Embedding(attention.relative_attention_num_buckets, attention.n_heads)
        init.normal_(bias.weight, std=std)
        attention.relative_attention_bias, attention.has_relative_attention_bias = bias, True
        attention.register_forward_pre_hook(own_position_bias, with_kwargs=True)


def own_position_bias(
    _attention: nn.Module, args: tuple, kwargs: dict[str, Any]
) -> tuple[tuple, dict[str, Any]]:
    """Before a self-attention that has a position bias of its own: not the first layer's, which T5 hands on."""
    return args, {**kwargs, "position_bias": None}


class CrossAttentionBias:
    """Before the first cross-attention: the position bias that T5 had there in transformers 3.

    Checkpoints of the authors' code have it. T5's own code hands it to the other blocks.
    """

    def __call__(
        self, attention: nn.Module, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        if kwargs.get("position_bias") is None:
            queries, keys = args[0].shape[1], kwargs["key_value_states"].shape[1]
            cache = kwargs.get("past_key_values")
            # Self-attention has already stored this step's tokens.
            start = 0 if cache is None else cache.get_seq_length(attention.layer_idx) - queries
            kwargs["position_bias"] = _two_sided_bias(attention, start, queries, keys)
        return args, kwargs


def _two_sided_bias(attention: Any, start: int, queries: int, keys: int) -> Tensor:
    """(1, heads, queries, keys) position bias that tells tokens ahead from tokens behind."""
    device = attention.relative_attention_bias.weight.device
    distance = (
        torch.arange(keys, device=device)[None, :]
        - torch.arange(start, start + queries, device=device)[:, None]
    )
    buckets = attention._relative_position_bucket(
        distance,
        bidirectional=True,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    return attention.relative_attention_bias(buckets).permute(2, 0, 1).unsqueeze(0)
