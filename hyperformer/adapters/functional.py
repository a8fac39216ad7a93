"""What an adapter computes, given its weights.

Shape letters: T tasks in use, N sites of a stack (layers x 2, the feed-forward
site of a layer before its self-attention site), B rows, S tokens, D T5's
width, K the bottleneck.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

FEED_FORWARD, SELF_ATTENTION = 0, 1
SITES_PER_LAYER = 2
# torch's default, which the authors' layer norms have too.
LAYER_NORM_EPSILON = 1e-5


class SiteWeights(NamedTuple):
    """The adapter at one site. Every tensor may have a leading B: then each row has its own adapter.

    Shapes: down_weight (K, D), down_bias (K), up_weight (D, K), up_bias and the
    layer norms (D). A layer norm that the settings leave out is None.
    """

    down_weight: Tensor
    down_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    pre_norm_weight: Tensor | None = None
    pre_norm_bias: Tensor | None = None
    post_norm_weight: Tensor | None = None
    post_norm_bias: Tensor | None = None


class GroupedWeights(NamedTuple):
    """The adapters at one site for a batch whose rows are in groups: each group has its own.

    Attributes:
        sizes: rows of each group.
        groups: the adapter of each group.
    """

    sizes: list[int]
    groups: list[SiteWeights]


Sites: TypeAlias = list[SiteWeights | GroupedWeights | None]
"""The adapters of a stack: feed-forward, then self-attention, of each layer in turn; None: a site without one."""


class BatchAdapters(NamedTuple):
    """Which adapters the rows of a batch use, of those that a module has or generates.

    Attributes:
        used: the numbers of the T that are in use; None: all.
        rows: which of them each row uses; a tensor (B,), or the numbers, where they can be read without a wait.
        sizes: rows of each of the T, where they are ordered by task and computed so; None: row by row, in
            batched products.
    """

    used: list[int] | None
    rows: Tensor | list[int]
    sizes: list[int] | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """Those in use, of all: (T, ...)."""
        return tensor if self.used is None else _pick(tensor, self.used)


def _pick(tensor: Tensor, numbers: list[int]) -> Tensor:
    """Some of the first dimension. Its graph saves no tensors, so re-entrant checkpointing can run it per block."""
    parts = tensor.unbind(0)
    return torch.stack([parts[number] for number in numbers])


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.dim() == 2:
        return F.linear(inputs, weight, bias)
    return torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2))


def _layer_norm(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    width = inputs.shape[-1:]
    if weight.dim() == 1:
        return F.layer_norm(inputs, width, weight, bias, LAYER_NORM_EPSILON)
    normed = F.layer_norm(inputs, width, eps=LAYER_NORM_EPSILON)
    return torch.addcmul(bias.unsqueeze(1), normed, weight.unsqueeze(1))


def apply_adapter(
    hidden: Tensor,
    weights: SiteWeights | GroupedWeights,
    activation: Callable[[Tensor], Tensor],
    inputs: Tensor | None = None,
) -> Tensor:
    """hidden + norm(up(activation(down(norm(inputs))))) (paper, equation 1).

    Args:
        hidden: (B, S, D), output of self-attention or feed-forward before dropout and residual.
        weights: the adapter of this site.
        inputs: (B, S, D), what the adapter reads; None: `hidden`.

    Returns:
        (B, S, D) in the type of `hidden`.
    """
    if isinstance(weights, GroupedWeights):
        tensors = (hidden, hidden if inputs is None else inputs)
        groups = zip(weights.groups, *(tensor.split(weights.sizes) for tensor in tensors), strict=True)
        return torch.cat([apply_adapter(part, own, activation, reads) for own, part, reads in groups])
    # In half precision, T5 keeps its last feed-forward product in float32.
    inner = (hidden if inputs is None else inputs).to(weights.down_weight.dtype)
    if weights.down_weight.dim() == 2:
        inner = inner.flatten(0, 1)  # once here, or each product does it
    if weights.pre_norm_weight is not None and weights.pre_norm_bias is not None:
        inner = _layer_norm(inner, weights.pre_norm_weight, weights.pre_norm_bias)
    inner = activation(_linear(inner, weights.down_weight, weights.down_bias))
    inner = _linear(inner, weights.up_weight, weights.up_bias)
    if weights.post_norm_weight is not None and weights.post_norm_bias is not None:
        inner = _layer_norm(inner, weights.post_norm_weight, weights.post_norm_bias)
    return hidden + inner.view_as(hidden).to(hidden.dtype)


def split_sites(tensors: dict[str, Tensor], batch: BatchAdapters | None) -> Sites:
    """The adapters of all sites of a stack, from tensors that hold all sites.

    Args:
        tensors: field of :class:`SiteWeights` -> (N, ...); with `batch` (T, N, ...).

    Returns:
        N adapters, as `Sites` has them.
    """
    # One unbind per tensor: its backward is one stack. Indexing each site would add up N
    # gradients, each of the size of all N.
    if batch is None:
        return [*_adapters({name: tensor.unbind(0) for name, tensor in tensors.items()})]
    if isinstance(batch.rows, Tensor):
        rows = batch.rows
        return [
            *_adapters(
                {name: tuple(site[rows] for site in tensor.unbind(1)) for name, tensor in tensors.items()}
            )
        ]
    if batch.sizes is None:
        return [*_adapters({name: _pick(tensor, batch.rows).unbind(1) for name, tensor in tensors.items()})]
    found = _adapters({name: tensor.flatten(0, 1).unbind(0) for name, tensor in tensors.items()})
    sites = len(found) // len(batch.sizes)
    return [GroupedWeights(batch.sizes, found[site::sites]) for site in range(sites)]


def _adapters(fields: dict[str, tuple[Tensor, ...]]) -> list[SiteWeights]:
    return [
        SiteWeights(**dict(zip(fields, values, strict=True))) for values in zip(*fields.values(), strict=True)
    ]


def with_gaps(sites: Sites) -> Sites:
    """Adapters of the feed-forward sites alone, as a list of all sites."""
    return [weights for site in sites for weights in (site, None)]


def site_index(layer: int, block: int) -> int:
    """Index in :func:`split_sites`' list of a layer's FEED_FORWARD or SELF_ATTENTION adapter."""
    return layer * SITES_PER_LAYER + block
