"""T5's config, extended by the adapters' settings and the tasks."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from transformers import GenerationConfig, T5Config

from hyperformer.settings.schema import AdapterConfig


class HyperformerConfig(T5Config):
    """T5's config with the adapters' settings and the tasks that `task_ids` count.

    With `relative_bias_per_layer`, every layer has a position bias of its own, as in umT5. `task_prefix` and
    `max_source_length` say how its sources were made, `answer_settings` how its run's evaluations answered
    (:func:`hyperformer.adapters.record.answer_settings`); None: that is not known.
    """

    model_type = "hyperformer_t5"
    adapter_settings: dict[str, Any] | None = None
    tasks: list[str] | None = None
    cross_attention_bias: bool = False
    relative_bias_per_layer: bool = False
    task_prefix: bool | None = None
    max_source_length: int | None = None
    answer_settings: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if getattr(self, "decoder_start_token_id", None) is None:
            self.decoder_start_token_id = self.pad_token_id  # as in every published T5

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


def token_ids_only(config: T5Config) -> GenerationConfig:
    """The generation settings that T5 needs. Others that a base model brings must not decide answers."""
    names = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    return GenerationConfig(**{name: getattr(config, name) for name in names})
