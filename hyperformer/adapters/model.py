"""Stock T5 with adapters: a thin subclass, and hooks at the two sites of every block (:mod:`hooks`).

Nothing of T5 is copied. A call names its task; the weights of all adapters of a stack are made at
once, and travel through T5's own keyword arguments to the blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, T5ForConditionalGeneration
from transformers import initialization as init

from hyperformer.adapters.functional import Sites
from hyperformer.adapters.hooks import STACKS, StackWeights
from hyperformer.adapters.methods import METHODS
from hyperformer.adapters.methods.method import Method
from hyperformer.adapters.modules import AdapterModule, Adapters
from hyperformer.adapters.t5.config import HyperformerConfig, token_ids_only
from hyperformer.adapters.t5.position_bias import add_bias_per_layer, add_cross_attention_bias
from hyperformer.adapters.t5.task_ids import TaskIds, batch_tensor, one_of, task_number, task_numbers
from hyperformer.errors import ConfigError
from hyperformer.settings.methods import METHODS as FACTS


class HyperformerT5(T5ForConditionalGeneration):
    """T5 whose blocks have adapters; without adapters it is T5.

    ``forward`` and ``generate`` take the task of the batch, `task` (its name), or of each row,
    `task_ids` (:data:`~hyperformer.adapters.t5.task_ids.TaskIds`).

    Raises:
        ConfigError: an unknown activation or task, or no task where adapters need one.
    """

    config_class = HyperformerConfig
    config: HyperformerConfig

    def __init__(self, config: HyperformerConfig) -> None:
        super().__init__(config)
        self.generation_config = token_ids_only(config)
        if config.cross_attention_bias:
            add_cross_attention_bias(self)
        if config.relative_bias_per_layer:
            add_bias_per_layer(self)
        kind = config.adapter_config.adapter
        self.method: Method = METHODS[kind]
        self.knows_task = FACTS[kind].knows_task
        self.adapters: Adapters | None = self.method.attach(self)

    @property
    def packs_targets(self) -> bool:
        """Whether the decoder can read several targets at once, told apart by the position bias of its self-attention.

        A bias of cross-attention knows places in the target: then it cannot.
        """
        return self.method.packs_targets and not self.config.cross_attention_bias

    @property
    def has_own_lm_head(self) -> bool:
        """Whether the output layer is a matrix of its own, as in T5 v1.1; otherwise it is the embeddings'."""
        return self.lm_head.weight is not self.shared.weight

    def untie_lm_head(self) -> None:
        """Give the output layer a matrix of its own, with new random weights."""
        self.lm_head.weight = torch.nn.Parameter(torch.empty_like(self.shared.weight))
        init.normal_(self.lm_head.weight, std=self.config.initializer_factor)
        self.all_tied_weights_keys.pop("lm_head.weight", None)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """transformers' method. It ties whatever the config says; an output layer of its own stays so."""
        keys = super().get_expanded_tied_weights_keys(all_submodels=all_submodels)
        untied = {"lm_head.weight"} - getattr(self, "all_tied_weights_keys", keys).keys()
        return {name: source for name, source in keys.items() if name not in untied}

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
        return task_number(self.config.tasks or (), task)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        task: TaskIds | None = None,
        task_ids: TaskIds | None = None,
        adapter_weights: StackWeights | None = None,
        **kwargs: Any,
    ) -> Any:
        """T5's forward for one task, or one per row. transformers reads the names of the parameters here.

        Args:
            task: name of the batch's task. It is quicker than numbers on a GPU, whose values must be read.
            task_ids: the task of the batch or of each row.
            adapter_weights: where `generate` keeps the weights over its steps.

        All others are T5's.
        """
        batch = batch_tensor(input_ids, inputs_embeds, encoder_outputs, decoder_input_ids, labels)
        weights = {} if adapter_weights is None else adapter_weights
        stacks = STACKS if encoder_outputs is None else STACKS[1:]
        missing = [stack for stack in stacks if stack not in weights]
        if self.adapters is not None:
            missing = [stack for stack in missing if stack in self.adapters.from_task]
        if missing:
            numbers = self._task_numbers(task, task_ids, batch)
            if self.adapters is not None:
                target = batch_tensor(decoder_input_ids, decoder_inputs_embeds, labels)
                read = {"encoder": batch, "decoder": target}
                weights.update({stack: self.adapters(stack, numbers, read[stack]) for stack in missing})
            elif numbers is not None:
                self.method.select(self, numbers)
        if self.adapters is not None:
            kwargs["adapter_weights"] = weights
        return super().forward(
            input_ids, attention_mask, decoder_input_ids, decoder_attention_mask, encoder_outputs,
            past_key_values, inputs_embeds, decoder_inputs_embeds, labels, use_cache, **kwargs,
        )  # fmt: skip

    def _task_numbers(
        self, task: TaskIds | None, task_ids: TaskIds | None, batch: Tensor | None
    ) -> int | Tensor | None:
        """:func:`task_numbers`; None for a model that needs no task and got none, or has no list of tasks."""
        tasks, given = self.config.tasks or (), one_of(task, task_ids)
        if not self.knows_task and (given is None or not tasks):
            return None
        return task_numbers(tasks, given, batch)

    @torch.no_grad()
    def generate(
        self, *args: Any, task: TaskIds | None = None, task_ids: TaskIds | None = None, **kwargs: Any
    ) -> Any:
        """T5's generate for one task, or one per row; `task` and `task_ids` as in :meth:`forward`.

        The adapters' weights are generated once, not at every token.

        Raises:
            ConfigError: the task is wrong, or `assistant_model` does not take a task.
        """
        sources = ("inputs", "input_ids", "inputs_embeds", "encoder_outputs")
        batch = batch_tensor(*args[:1], *(kwargs.get(name) for name in sources))
        numbers = self._task_numbers(task, task_ids, batch)
        if isinstance(numbers, Tensor) and bool((numbers == numbers[0]).all()):
            numbers = int(numbers[0])
        assistant = kwargs.get("assistant_model")
        if assistant is not None:
            self._check_assistant(assistant)
        # What a model gives to its assistant comes here too; an assistant makes its own weights.
        kwargs.pop("adapter_weights", None)
        if self.adapters is not None:
            kwargs["adapter_weights"] = _WeightsOfOneCall()
        if self.knows_task or isinstance(assistant, HyperformerT5):
            kwargs["task_ids"] = numbers
        return super().generate(*args, **kwargs)

    def _check_assistant(self, assistant: Any) -> None:
        """See that the assistant of assisted decoding takes the task; raises ConfigError if it does not."""
        if not isinstance(assistant, HyperformerT5):
            if self.knows_task:
                raise ConfigError(
                    f"assistant_model is a {type(assistant).__name__}, which cannot be told the task: load it by "
                    "hyperformer.adapters.trained_model.load_model, which takes a plain T5 too"
                )
        elif assistant.knows_task and assistant.config.tasks != self.config.tasks:
            raise ConfigError(
                f"assistant_model has the tasks {assistant.config.tasks}, this model {self.config.tasks}: "
                "they must be the same, in the same order"
            )

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """transformers' method; the re-entrant kind is refused where adapters are generated.

        Raises:
            ConfigError: it is asked for. It runs a backward of its own per block, and the blocks
                share the graph in which their adapters were generated.
        """
        settings = {"use_reentrant": False, **(activation_checkpointing_kwargs or {})}
        if settings["use_reentrant"] and self.method.generates:
            kind = self.config.adapter_config.adapter
            raise ConfigError(
                f"use_reentrant=True: re-entrant gradient checkpointing does not work with adapter={kind}; "
                "write use_reentrant=False"
            )
        super().activation_checkpointing_enable(settings, **kwargs)


# Their annotation of **kwargs tells transformers what a model can output.
HyperformerT5.forward.__annotations__["kwargs"] = T5ForConditionalGeneration.forward.__annotations__["kwargs"]


def new_model(config: HyperformerConfig) -> HyperformerT5:
    """A model with random weights; its output layer is its own if the config is of T5 v1.1's kind.

    transformers keeps ``tie_word_embeddings: false`` of such a config as `scale_decoder_outputs`
    alone, and ties a model that is not loaded from a checkpoint.
    """
    model = HyperformerT5(config)
    if not config.scale_decoder_outputs:
        model.untie_lm_head()
    return model


class _WeightsOfOneCall(dict[str, Sites]):
    """Weights kept over the steps of one call of generate."""

    def __deepcopy__(self, _memo: Any) -> _WeightsOfOneCall:
        # Assisted decoding gives its assistant a copy of a call's arguments. These weights are of another model.
        return _WeightsOfOneCall()


AutoConfig.register(HyperformerConfig.model_type, HyperformerConfig)
AutoModelForSeq2SeqLM.register(HyperformerConfig, HyperformerT5)
