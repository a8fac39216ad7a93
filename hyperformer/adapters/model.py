"""Stock T5 with adapters: a thin subclass, and hooks at the two sites of every block.

Nothing of T5 is copied. `task_ids` travels through T5's own keyword arguments;
where a stack starts, a hook turns it into the weights of all its adapters, which
travel on to the blocks. They are passed and not kept on the module, so that
gradient checkpointing recomputes a block with the weights it was run with.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration
from transformers.activations import ACT2FN

from hyperformer.adapters.modules import AdapterModule, Adapters
from hyperformer.adapters.weights import FEED_FORWARD, SELF_ATTENTION, SiteWeights, apply_adapter, site_index
from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.schema import AdapterConfig

STACKS = ("encoder", "decoder")


class HyperformerConfig(T5Config):
    """T5's config with the adapters' settings and the tasks that `task_ids` count.

    `task_prefix` and `max_source_length` say how its sources were made, where that is known.
    """

    model_type = "hyperformer_t5"
    adapter_settings: dict[str, Any] | None = None
    tasks: list[str] | None = None
    cross_attention_bias: bool = False
    task_prefix: bool | None = None
    max_source_length: int | None = None

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> T5Config:
        # transformers sizes the decoder's cache by `num_layers`, which is the
        # encoder's; stock T5 fails to generate where the decoder has more.
        found = super().get_text_config(decoder=decoder, encoder=encoder)
        if not decoder or self.num_decoder_layers == self.num_layers:
            return found
        sized = copy.deepcopy(found)
        sized.num_layers = self.num_decoder_layers
        return sized

    @property
    def adapter_config(self) -> AdapterConfig:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in (self.adapter_settings or {}).items()
        }
        return AdapterConfig(**values)


def hyperformer_config(t5: T5Config, adapter: AdapterConfig, tasks: tuple[str, ...]) -> HyperformerConfig:
    """T5's config extended by adapters for `tasks`."""
    values = {key: value for key, value in t5.to_dict().items() if key not in ("model_type", "architectures")}
    values |= {"adapter_settings": dataclasses.asdict(adapter), "tasks": list(tasks)}
    return HyperformerConfig(**values)


class HyperformerT5(T5ForConditionalGeneration):
    """T5 whose blocks have adapters; without adapters it is T5.

    ``forward`` and ``generate`` take the task of the batch, `task` (name), or of
    every row, `task_ids` (B,): numbers into ``config.tasks``.

    Raises:
        ConfigError: an unknown activation or task, or no task where adapters need one.
    """

    config_class = HyperformerConfig
    config: HyperformerConfig

    def __init__(self, config: HyperformerConfig) -> None:
        super().__init__(config)
        adapter = config.adapter_config
        self.adapters: Adapters | None = None
        if config.cross_attention_bias:
            _restore_cross_attention_bias(self)
        if adapter.adapter == "none":
            return
        if adapter.non_linearity.lower() not in ACT2FN:
            raise ConfigError(
                f"non_linearity: unknown activation {adapter.non_linearity!r}{nearest(adapter.non_linearity, ACT2FN)}"
            )
        layers = {stack: len(getattr(self, stack).block) for stack in STACKS}
        self.adapters = Adapters(adapter, tuple(config.tasks or ()), layers, config.d_model)
        activation = _activation(adapter.non_linearity.lower())
        for stack in STACKS:
            getattr(self, stack).register_forward_pre_hook(self._stack_hook(stack), with_kwargs=True)
            for number, block in enumerate(getattr(self, stack).block):
                _attach(block, number, activation)

    def _init_weights(self, module: torch.nn.Module) -> None:
        # T5's initialisation knows its own modules only, and is applied to every
        # weight that a plain T5 checkpoint lacks.
        if isinstance(module, AdapterModule):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    def task_id(self, task: str) -> int:
        """The number of a task.

        Raises:
            ConfigError: the model was not made for this task.
        """
        tasks = self.config.tasks or []
        if task not in tasks:
            raise ConfigError(f"task {task!r} is not one of this model's{nearest(task, tasks)}")
        return tasks.index(task)

    def forward(
        self,
        *args: Any,
        task: str | None = None,
        task_ids: Tensor | int | None = None,
        adapter_weights: dict[str, list[SiteWeights]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """T5's forward for one task, or a task a row.

        Args:
            task: name of the batch's task; needs no look at the data, so prefer it.
            task_ids: (B,) numbers into ``config.tasks``; or one number for the batch.
            adapter_weights: where `generate` keeps the weights over its steps.
        """
        if self.adapters is not None:
            kwargs |= {"task_ids": self._one_task(task, task_ids), "adapter_weights": adapter_weights}
        return super().forward(*args, **kwargs)

    def _one_task(self, task: str | None, task_ids: Tensor | int | None) -> Tensor | int:
        if task is not None:
            return self.task_id(task)
        if task_ids is None:
            raise ConfigError("this model has adapters: say for which task, by task='...' or task_ids=...")
        return task_ids

    @torch.no_grad()
    def generate(
        self, *args: Any, task: str | None = None, task_ids: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """T5's generate for one task (`task`), or a task a row (`task_ids`, (B,)).

        The adapters' weights are generated once, not at every token.
        """
        if self.adapters is None:
            return super().generate(*args, **kwargs)
        ids = self._one_task(task, task_ids)
        if isinstance(ids, Tensor) and bool((ids == ids[0]).all()):
            ids = int(ids[0])
        return super().generate(*args, task_ids=ids, adapter_weights=_OncePerStack(), **kwargs)

    def _stack_hook(self, stack: str) -> Callable:
        def make_weights(_module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            assert self.adapters is not None
            ids = kwargs.pop("task_ids", None)
            kept = kwargs.pop("adapter_weights", None)
            if ids is None:
                raise ConfigError(
                    "this model has adapters: say for which task, by task='...' or task_ids=..."
                )
            weights = kept.get(stack) if kept is not None else None
            if weights is None:
                weights = self.adapters(stack, ids)
                if kept is not None:
                    kept[stack] = weights
            kwargs["adapter_weights"] = weights
            return args, kwargs

        return make_weights


class _OncePerStack(dict[str, list[SiteWeights]]):
    """Weights kept over the steps of one call of generate."""


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    # The same function to the last bits, in one kernel in place of eight.
    return ACT2FN["gelu_pytorch_tanh" if name == "gelu_new" else name]


def _attach(block: torch.nn.Module, layer: int, activation: Callable[[Tensor], Tensor]) -> None:
    """Hook the adapters of one block to its self-attention and its feed-forward."""
    # T5 gives its feed-forward layer no keyword arguments: the attention of the
    # same block, which always runs just before, leaves it its weights here.
    feed_forward: list[SiteWeights] = []

    def after_attention(_module: Any, _args: tuple, kwargs: dict[str, Any], output: tuple) -> tuple:
        weights = kwargs["adapter_weights"]
        feed_forward[:] = [weights[site_index(layer, FEED_FORWARD)]]
        adapted = apply_adapter(output[0], weights[site_index(layer, SELF_ATTENTION)], activation)
        return (adapted, *output[1:])

    def after_feed_forward(_module: Any, _args: tuple, output: Tensor) -> Tensor:
        return apply_adapter(output, feed_forward.pop(), activation)

    block.layer[0].SelfAttention.register_forward_hook(after_attention, with_kwargs=True)  # type: ignore[index,union-attr]
    block.layer[-1].DenseReluDense.register_forward_hook(after_feed_forward)  # type: ignore[index,union-attr]


def _restore_cross_attention_bias(model: T5ForConditionalGeneration) -> None:
    """Give the decoder the position bias in cross-attention that T5 had in transformers 3.

    Checkpoints of the authors' code carry it. The first block computes it, for
    both directions, and T5's own code hands it to the blocks after.
    """
    attention = model.decoder.block[0].layer[1].EncDecAttention
    attention.relative_attention_bias = torch.nn.Embedding(
        attention.relative_attention_num_buckets, attention.n_heads
    )
    torch.nn.init.zeros_(attention.relative_attention_bias.weight)

    def add_bias(module: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if kwargs.get("position_bias") is None:
            queries, keys = args[0].shape[1], kwargs["key_value_states"].shape[1]
            cache = kwargs.get("past_key_values")
            # Self-attention has already stored this step's tokens.
            start = 0 if cache is None else cache.get_seq_length(module.layer_idx) - queries
            kwargs["position_bias"] = _two_sided_bias(module, start, queries, keys)
        return args, kwargs

    attention.register_forward_pre_hook(add_bias, with_kwargs=True)


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


AutoConfig.register(HyperformerConfig.model_type, HyperformerConfig)
AutoModelForSeq2SeqLM.register(HyperformerConfig, HyperformerT5)
