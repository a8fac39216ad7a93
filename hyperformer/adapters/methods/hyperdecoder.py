"""`hyperdecoder`: the decoder's adapters are generated from the encoder's output, for each row (Ivison, Peters 2022).

The encoder has adapters of its own, the same for all rows. All adapters are at the feed-forward. No weights are a
task's: the source says which task it is.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from hyperformer.adapters.functional import BatchAdapters, Sites, SiteWeights, with_gaps
from hyperformer.adapters.hooks import StackHook, StackWeights, attach_sites
from hyperformer.adapters.methods.method import Method, Sizes, depths
from hyperformer.adapters.methods.task_adapters import TaskAdapters
from hyperformer.adapters.modules import AdapterModule, Adapters, field_shapes
from hyperformer.adapters.t5.task_ids import TaskIds
from hyperformer.settings.schema import AdapterConfig

# Generated weights are so much smaller than a layer's usual ones at the start, as in the authors' code.
_SCALE = 1e-3


class UniformLinear(nn.Linear, AdapterModule):
    """A linear layer with weights drawn from (-bound, bound), and biases of zero."""

    def __init__(self, inputs: int, outputs: int, bound: float) -> None:
        self.bound = bound  # nn.Linear's constructor calls reset_parameters
        super().__init__(inputs, outputs)

    def reset_parameters(self) -> None:
        init.uniform_(self.weight, -self.bound, self.bound)
        init.zeros_(self.bias)


def _layer(inputs: int, outputs: int) -> UniformLinear:
    return UniformLinear(inputs, outputs, inputs**-0.5)


class RowAdapters(AdapterModule):
    """Generates a row's adapters from its pooled encoder output, joined with an embedding of each layer."""

    def __init__(self, config: AdapterConfig, layers: int, width: int) -> None:
        super().__init__()
        hidden = config.task_hidden_dim
        self.layer_embeddings = nn.Parameter(torch.empty(layers, config.task_embedding_dim))
        self.pooled = nn.Sequential(_layer(width, width), nn.ReLU(), _layer(width, width))
        self.hidden = _layer(width + config.task_embedding_dim, hidden)
        self.shapes = field_shapes(config, width)
        self.heads = nn.ModuleDict()
        for name, shape in self.shapes.items():
            # Generated weights have the spread of a layer with their number of inputs (Chang et al. 2020, hyperfan-in).
            inputs = shape[1] if name.endswith("_weight") else 1
            bound = _SCALE * (3 / (hidden * inputs)) ** 0.5
            self.heads[name] = UniformLinear(hidden, torch.Size(shape).numel(), bound)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.layer_embeddings)

    def forward(self, encoded: Tensor, mask: Tensor | None) -> Sites:
        """The adapters of the feed-forward of every layer, one per row.

        Args:
            encoded: (B, S, D), the encoder's output; mask: (B, S), 0 where it is padding; None: nowhere.
        """
        mask = torch.ones(encoded.shape[:2], device=encoded.device) if mask is None else mask
        share = (mask / mask.sum(dim=1, keepdim=True)).to(encoded.dtype)
        pooled = self.pooled((share.unsqueeze(1) @ encoded).squeeze(1))
        layers = self.layer_embeddings.expand(len(pooled), -1, -1)
        read = torch.cat(
            [pooled.unsqueeze(1).expand(-1, layers.shape[1], -1), layers.to(pooled.dtype)], dim=-1
        )
        read = torch.relu(self.hidden(read))
        made = {
            name: self.heads[name](read).unflatten(-1, shape).unbind(1) for name, shape in self.shapes.items()
        }
        return [
            SiteWeights(**dict(zip(made, values, strict=True))) for values in zip(*made.values(), strict=True)
        ]


class SharedAdapters(TaskAdapters):
    """One adapter per site, for all tasks."""

    rows_are_tasks = False


class RowHook(StackHook):
    """Before a stack runs: its adapters; the decoder's from the encoder's output, kept where `generate` keeps them."""

    def make(self, given: StackWeights, task: TaskIds | None, args: tuple, kwargs: dict[str, Any]) -> Sites:
        if self.stack == "encoder":
            return self.adapters(self.stack, 0)
        encoded, mask = kwargs["encoder_hidden_states"], kwargs.get("encoder_attention_mask")
        given[self.stack] = with_gaps(self.adapters.stacks[self.stack](encoded, mask))
        return given[self.stack]


class HyperdecoderAdapters(Adapters):
    """The encoder's adapters, and what generates the decoder's."""

    from_task = ("encoder",)

    def of_rows(self, stack: str, index: int | BatchAdapters) -> Sites:
        return self.stacks[stack](0)

    def forward(self, stack: str, task: int | Tensor | None, inputs: Tensor | None = None) -> Sites:
        return with_gaps(self.of_rows(stack, 0))


class Hyperdecoder(Method):
    """The paper's main form: generated in the decoder, plain in the encoder."""

    generates = True

    def attach(self, model: Any) -> Adapters:
        config, width = model.config.adapter_config, model.config.d_model
        config = dataclasses.replace(
            config, add_layer_norm_before_adapter=False, add_layer_norm_after_adapter=False
        )
        layers = depths(model)
        stacks: dict[str, AdapterModule] = {
            "encoder": SharedAdapters(config, 1, layers["encoder"], width),
            "decoder": RowAdapters(config, layers["decoder"], width),
        }
        return attach_sites(model, HyperdecoderAdapters((), stacks), RowHook)

    def count(self, config: AdapterConfig, sizes: Sizes) -> int:
        """With a = 2kd + k + d, layers l, embeddings e, hidden h: l a; l e + 2(d^2 + d) + (d + e + 1)h + (h + 1)a."""
        width, dim, hidden = sizes.width, config.task_embedding_dim, config.task_hidden_dim
        bottleneck = width // config.reduction_factor
        adapter = 2 * bottleneck * width + bottleneck + width
        generator = 2 * (width**2 + width) + (width + dim + 1) * hidden + (hidden + 1) * adapter
        return sizes.layers["encoder"] * adapter + sizes.layers["decoder"] * dim + generator
