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


Sites: TypeAlias = list[SiteWeights | None]
"""The adapters of a stack: feed-forward, then self-attention, of each layer in turn; None: a site without one."""


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
    hidden: Tensor, weights: SiteWeights, activation: Callable[[Tensor], Tensor], inputs: Tensor | None = None
) -> Tensor:
    """hidden + norm(up(activation(down(norm(inputs))))) (paper, equation 1).

    Args:
        hidden: (B, S, D), output of self-attention or feed-forward before dropout and residual.
        weights: the adapter of this site.
        inputs: (B, S, D), what the adapter reads; None: `hidden`.

    Returns:
        (B, S, D) in the type of `hidden`.
    """
    # In half precision, T5 keeps its last feed-forward product in float32.
    inner = (hidden if inputs is None else inputs).to(weights.down_weight.dtype)
    if weights.pre_norm_weight is not None and weights.pre_norm_bias is not None:
        inner = _layer_norm(inner, weights.pre_norm_weight, weights.pre_norm_bias)
    inner = activation(_linear(inner, weights.down_weight, weights.down_bias))
    inner = _linear(inner, weights.up_weight, weights.up_bias)
    if weights.post_norm_weight is not None and weights.post_norm_bias is not None:
        inner = _layer_norm(inner, weights.post_norm_weight, weights.post_norm_bias)
    return hidden + inner.to(hidden.dtype)


def split_sites(tensors: dict[str, Tensor], rows: Tensor | None) -> Sites:
    """The adapters of all sites of a stack, from tensors that hold all sites.

    Args:
        tensors: field of :class:`SiteWeights` -> (N, ...); with `rows` (T, N, ...).
        rows: (B,) which of the T each row of the batch uses.

    Returns:
        N adapters, as `Sites` has them.
    """
    # One unbind per tensor: its backward is one stack. Indexing each site would add up N
    # gradients, each of the size of all N.
    sites = {name: tensor.unbind(0 if rows is None else 1) for name, tensor in tensors.items()}
    if rows is not None:
        sites = {name: tuple(tensor[rows] for tensor in tensors_) for name, tensors_ in sites.items()}
    return [
        SiteWeights(**dict(zip(sites, values, strict=True))) for values in zip(*sites.values(), strict=True)
    ]


def with_gaps(sites: Sites) -> Sites:
    """Adapters of the feed-forward sites alone, as a list of all sites."""
    return [weights for site in sites for weights in (site, None)]


def site_index(layer: int, block: int) -> int:
    """Index in :func:`split_sites`' list of a layer's FEED_FORWARD or SELF_ATTENTION adapter."""
    return layer * SITES_PER_LAYER + block
