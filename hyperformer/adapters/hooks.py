"""How adapters enter stock T5: hooks on its modules, and the task that a call names.

The hooks are plain objects, so a copied or unpickled model has hooks of its own on its own adapters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
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
from hyperformer.errors import ConfigError, nearest

STACKS = ("encoder", "decoder")

TaskIds: TypeAlias = Any
"""The task of a batch: its name, or its number in ``config.tasks``. Or the task of each of its B rows:
a list, numpy array or tensor of such, (B,) or (B, 1)."""

StackWeights = dict[str, Sites]
"""The adapters of 'encoder' and 'decoder', for the tasks of one batch."""


def batch_tensor(*inputs: Any) -> Tensor | None:
    """The first input that there is, a tensor with a row per example; of outputs, their first tensor."""
    found = next((value for value in inputs if value is not None), None)
    return found if found is None or isinstance(found, Tensor) else found[0]


def task_number(tasks: Sequence[str], task: str) -> int:
    """The number of a task.

    Raises:
        ConfigError: the model was not made for this task.
    """
    if task not in tasks:
        raise ConfigError(f"task {task!r} is not one of this model's{nearest(task, tasks)}")
    return list(tasks).index(task)


def one_of(task: TaskIds | None, task_ids: TaskIds | None) -> TaskIds | None:
    """What was given.

    Raises:
        ConfigError: both were.
    """
    if task is not None and task_ids is not None:
        raise ConfigError("both task and task_ids are given: give one of them")
    return task if task is not None else task_ids


def task_numbers(tasks: Sequence[str], wanted: TaskIds | None, batch: Tensor | None) -> int | Tensor:
    """The task of a batch as a number, or the tasks of its rows as a tensor (B,) on the batch's device.

    Args:
        tasks: the model's, in the order of the numbers.
        batch: a tensor with a row per example, (B, ...). None: the length is not checked.

    Raises:
        ConfigError: no task is named, or one that the model does not have; or not one per row.
    """
    if wanted is None:
        raise ConfigError("this model has adapters: say for which task, by task='...' or task_ids=...")
    if isinstance(wanted, Tensor):
        numbers = _checked_tensor(tasks, wanted)
        if numbers.dim() == 0:
            return int(numbers)
    else:
        values = wanted.tolist() if hasattr(wanted, "tolist") else wanted  # numpy, pandas
        if not isinstance(values, list | tuple):
            return _number(tasks, values)
        numbers = torch.tensor([_number(tasks, value) for value in values], dtype=torch.long)
    if batch is None:
        return numbers
    if len(numbers) != len(batch):
        raise ConfigError(
            f"task_ids names {len(numbers)} tasks for a batch of {len(batch)} rows: write one per row"
        )
    return numbers.to(batch.device)


def _number(tasks: Sequence[str], value: Any) -> int:
    """One task, as a number or a name, perhaps in a list or a tensor of its own."""
    given, value = value, value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return task_number(tasks, value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"task_ids: {given!r} is neither the number nor the name of a task")
    if not 0 <= value < len(tasks):
        raise _out_of_range(tasks, value)
    return value


def _checked_tensor(tasks: Sequence[str], numbers: Tensor) -> Tensor:
    """A tensor of numbers as (B,) or (), seen to be of tasks.

    Raises:
        ConfigError: it is not. (A compiled graph raises RuntimeError, or fails as CUDA's assertions do.)
    """
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ConfigError(f"task_ids must be whole numbers, not {numbers.dtype}")
    if numbers.dim() == 2 and numbers.shape[1] == 1:
        numbers = numbers.squeeze(1)
    if numbers.dim() > 1:
        raise ConfigError(f"task_ids has the shape {tuple(numbers.shape)}: write one task per row, (B,)")
    wrong = (numbers < 0) | (numbers >= len(tasks))
    if torch.compiler.is_compiling():
        torch._assert_async(~wrong.any(), "task_ids: a number is not that of one of the model's tasks")
    elif not numbers.is_meta and bool(wrong.any()):
        raise _out_of_range(tasks, int(numbers[wrong][0]))
    return numbers.long()


def _out_of_range(tasks: Sequence[str], number: int) -> ConfigError:
    return ConfigError(f"task_ids: {number} is not the number of a task; the {len(tasks)} tasks count from 0")


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
    """After a block's self-attention: its adapter; the feed-forward's weights are handed over."""

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
