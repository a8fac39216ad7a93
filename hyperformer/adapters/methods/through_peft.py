"""`lora`, `dora`, `ia3`, `vera`, `prefix_tuning`, `prompt_tuning`, `p_tuning`: made by the package peft, an extra."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hyperformer.adapters.init_from.rows import Rows
from hyperformer.adapters.methods.method import Method, Sizes
from hyperformer.errors import ConfigError
from hyperformer.settings.extras import check_installed
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import AdapterConfig

_ADDED = re.compile(
    r"^prompt_encoder\.|\.(lora_A|lora_B|lora_magnitude_vector|ia3_l|vera_lambda_b|vera_lambda_d)\."
)


class ThroughPeft(Method):
    """An adapter of peft per task, or one that tasks share."""

    def __init__(self, *, packs_targets: bool = True) -> None:
        self.packs_targets = packs_targets

    def wrap(self, model: Any) -> None:
        check_installed(model.config.adapter_config.adapter)
        from hyperformer.adapters.peft_bridge.attach import adapter_names, attach
        from hyperformer.adapters.peft_bridge.configs import peft_config

        rows = Rows.of(model.config.adapter_config, tuple(model.config.tasks or ())).distinct
        attach(model, {name: peft_config(model) for name in adapter_names(rows)})

    def t5_name(self, name: str) -> str | None:
        return None if _ADDED.search(name) else name.replace(".base_layer.", ".")

    def select(self, model: Any, task: int | Tensor) -> None:
        from hyperformer.adapters.peft_bridge.attach import activate

        rows = Rows.of(model.config.adapter_config, tuple(model.config.tasks))
        names = {rows.names[number] for number in ([task] if isinstance(task, int) else task.tolist())}
        if len(names) > 1:
            kind = model.config.adapter_config.adapter
            raise ConfigError(
                f"adapter is {kind}: all rows of a batch must be of one task, or share an adapter"
            )
        activate(model, f"adapter{rows.distinct.index(names.pop())}")

    def part(self, name: str) -> str:
        return "prompts" if name.startswith("prompt_encoder.") else f"adapters of the {name.split('.')[0]}"

    def count(self, config: AdapterConfig, sizes: Sizes) -> int:
        """By the formulas of the papers that :mod:`hyperformer.settings.methods` names."""
        return sizes.tasks * _COUNTS[config.adapter](config, sizes)

    def encoder_modules(self, model: Any) -> Sequence[nn.Module]:
        return ()


def _matrices(config: AdapterConfig, sizes: Sizes) -> list[tuple[str, int, int]]:
    """The matrices that a method adapts: name, inputs, outputs; one entry for each place in T5."""
    encoder, decoder = sizes.layers["encoder"], sizes.layers["decoder"]
    found = []
    for name in config.target_modules or METHODS[config.adapter].targets:
        if name in ("q", "k", "v", "o"):
            shape, places = (sizes.width, sizes.inner), encoder + 2 * decoder
        else:
            shape, places = (sizes.width, sizes.feed_forward), encoder + decoder
        inputs, outputs = reversed(shape) if name in ("o", "wo") else shape
        found += [(name, inputs, outputs)] * places
    return found


def _lora(config: AdapterConfig, sizes: Sizes) -> int:
    """r (inputs + outputs) per matrix (Hu et al. 2022, section 4.1); DoRA: and a magnitude per output."""
    per_output = config.adapter == "dora"
    return sum(
        config.lora_rank * (inputs + outputs) + per_output * outputs
        for _, inputs, outputs in _matrices(config, sizes)
    )


def _ia3(config: AdapterConfig, sizes: Sizes) -> int:
    """A factor per output of attention's matrices, per input of the feed-forward's (Liu et al. 2022, section 3.3)."""
    return sum(outputs if name in "qkvo" else inputs for name, inputs, outputs in _matrices(config, sizes))


def _vera(config: AdapterConfig, sizes: Sizes) -> int:
    """r + outputs per matrix (Kopiczko et al. 2024, section 3.2)."""
    return sum(config.vera_rank + outputs for _, _, outputs in _matrices(config, sizes))


def _prompt_tuning(config: AdapterConfig, sizes: Sizes) -> int:
    """Tokens times width (Lester et al. 2021, section 2)."""
    return config.virtual_tokens * sizes.width


def _p_tuning(config: AdapterConfig, sizes: Sizes) -> int:
    """The tokens' embeddings, and the network of three layers that they pass (Liu et al. 2021, with peft's MLP)."""
    width, hidden = sizes.width, config.prompt_hidden_dim or sizes.width
    network = (width + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * width
    return config.virtual_tokens * width + network


def _prefix_tuning(config: AdapterConfig, sizes: Sizes) -> int:
    """A key and a value per token and layer (Li and Liang 2021, section 4); with projection, what makes them."""
    outputs = 2 * sizes.layers["decoder"] * sizes.inner
    if not config.prefix_projection:
        return config.virtual_tokens * outputs
    hidden = config.prompt_hidden_dim or sizes.width
    return config.virtual_tokens * sizes.inner + (sizes.inner + 1) * hidden + (hidden + 1) * outputs


_COUNTS = {
    "lora": _lora,
    "dora": _lora,
    "ia3": _ia3,
    "vera": _vera,
    "prefix_tuning": _prefix_tuning,
    "prompt_tuning": _prompt_tuning,
    "p_tuning": _p_tuning,
}
