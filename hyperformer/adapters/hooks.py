"""How adapters enter stock T5: hooks on its modules.

The hooks are plain objects, so a copied or unpickled model has hooks of its own on its own adapters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers.activations import ACT2FN

from hyperformer.adapters.functional import (
    FEED_FORWARD,
    SELF_ATTENTION,
    Sites,
    apply_adapter,
    site_index,
)
from hyperformer.adapters.modules import Adapters
from hyperformer.adapters.t5.task_ids import TaskIds, batch_tensor, one_of, task_numbers
from hyperformer.errors import ConfigError, nearest

STACKS = ("encoder", "decoder")

StackWeights = dict[str, Sites]
"""The adapters of 'encoder' and 'decoder', for the tasks of one batch."""


# T5 gives its feed-forward layer no keyword arguments. The self-attention of the same block, which
# runs before it in the same thread, leaves the weights here.
_handover = threading.local()


class StackHook:
    """Before a stack runs: its adapters' weights, made here if the caller brought a task instead.

    They travel on to the blocks as a keyword argument and are not kept on a module, so that
    gradient checkpointing recomputes a block with the weights of its first run.
    """

    def __init__(self, stack: str, adapters: Adapters, config: Any) -> None:
        self.stack, self.adapters, self.config = stack, adapters, config

    def __call__(
        self, _module: nn.Module, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        task = one_of(kwargs.pop("task", None), kwargs.pop("task_ids", None))
        given = kwargs.pop("adapter_weights", None)
        given = {} if given is None else given
        weights = given.get(self.stack)
        if weights is None:
            weights = self.make(given, task, args, kwargs)
        return args, {**kwargs, "adapter_weights": weights}

    def make(self, _given: StackWeights, task: TaskIds | None, args: tuple, kwargs: dict[str, Any]) -> Sites:
        """The adapters of the stack, for a call with these arguments."""
        batch = batch_tensor(*args[:1], kwargs.get("input_ids"), kwargs.get("inputs_embeds"))
        return self.adapters(self.stack, task_numbers(self.config.tasks or (), task, batch), batch)


class SelfAttentionHook:
    """After a block's self-attention: its adapter; the feed-forward's weights are passed on."""

    def __init__(self, layer: int, activation: Callable[[Tensor], Tensor]) -> None:
        self.layer, self.activation = layer, activation

    def __call__(self, _module: nn.Module, _args: tuple, kwargs: dict[str, Any], output: tuple) -> tuple:
        weights = kwargs["adapter_weights"]
        _handover.weights = weights[site_index(self.layer, FEED_FORWARD)]
        own = weights[site_index(self.layer, SELF_ATTENTION)]
        if own is None:
            return output
        return (apply_adapter(output[0], own, self.activation), *output[1:])


class FeedForwardHook:
    """After a block's feed-forward: its adapter, which reads the feed-forward's output, or its input if parallel."""

    def __init__(self, activation: Callable[[Tensor], Tensor], parallel: bool) -> None:
        self.activation, self.parallel = activation, parallel

    def __call__(self, _module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        weights, _handover.weights = _handover.weights, None
        return apply_adapter(output, weights, self.activation, args[0] if self.parallel else None)


def attach_sites(model: Any, adapters: Adapters, stack_hook: type[StackHook] = StackHook) -> Adapters:
    """Hook adapters to both sites of every block of a T5; returns them.

    Args:
        stack_hook: what makes the weights of a stack.

    Raises:
        ConfigError: an unknown activation.
    """
    adapter = model.config.adapter_config
    activation = _activation(adapter.non_linearity)
    for stack in STACKS:
        hook = stack_hook(stack, adapters, model.config)
        getattr(model, stack).register_forward_pre_hook(hook, with_kwargs=True)
        for number, block in enumerate(getattr(model, stack).block):
            attention = SelfAttentionHook(number, activation)
            block.layer[0].SelfAttention.register_forward_hook(attention, with_kwargs=True)
            feed_forward = FeedForwardHook(activation, adapter.parallel_feed_forward_adapter)
            block.layer[-1].DenseReluDense.register_forward_hook(feed_forward)
    return adapters


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of that name; raises ConfigError if there is none."""
    name = name.lower()
    if name not in ACT2FN:
        raise ConfigError(f"non_linearity: unknown activation {name!r}{nearest(name, ACT2FN)}")
    # The same function to the last bits, in one kernel instead of eight.
    return ACT2FN["gelu_pytorch_tanh" if name == "gelu_new" else name]
