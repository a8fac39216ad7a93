"""The labels of a task as trees of their prefixes: one position of the decoder per distinct prefix, not per token."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hyperformer.data.collate import IGNORED, pad


@dataclass(frozen=True)
class LabelTree:
    """Some labels of L tokens at most, whose N distinct prefixes are nodes. The root is the empty prefix.

    A prefix comes before all that continue it, so the decoder's causal mask hides no ancestor.

    Attributes:
        tokens: what the decoder reads at each node: the start token, then the last token of a prefix; (N,).
        distances: of each node to each of its ancestors, in tokens; -1: no ancestor, unseen; (N, N).
        labels: the labels' tokens, </s> included, filled up with :data:`IGNORED`; (labels, L).
        parents: the node after which each of these tokens comes; (labels, L).
    """

    tokens: Tensor
    distances: Tensor
    labels: Tensor
    parents: Tensor

    def to(self, device: torch.device) -> LabelTree:
        return LabelTree(**{name: tensor.to(device) for name, tensor in vars(self).items()})


# Each batch asks for its task's.
@functools.lru_cache(maxsize=64)
def label_trees(labels: tuple[tuple[int, ...], ...], start: int, most: int) -> tuple[LabelTree, ...]:
    """Trees that have the labels in their order, each of `most` nodes unless one label alone has more.

    Args:
        labels: their token ids. None is empty.
        start: the token with which the decoder starts.
    """
    groups: list[list[tuple[int, ...]]] = []
    nodes: set[tuple[int, ...]] = set()
    for label in labels:
        prefixes = {label[:end] for end in range(len(label))}
        if not groups or len(nodes | prefixes) > most:
            groups.append([])
            nodes = set()
        groups[-1].append(label)
        nodes |= prefixes
    return tuple(_tree(group, start) for group in groups)


def _tree(labels: Sequence[tuple[int, ...]], start: int) -> LabelTree:
    prefixes = dict.fromkeys(label[:end] for label in labels for end in range(len(label)))
    number = {prefix: node for node, prefix in enumerate(prefixes)}
    distances = torch.full((len(number), len(number)), -1)
    for prefix, node in number.items():
        for end in range(len(prefix) + 1):
            distances[node, number[prefix[:end]]] = len(prefix) - end
    parents = [np.asarray([number[label[:end]] for end in range(len(label))]) for label in labels]
    return LabelTree(
        torch.tensor([prefix[-1] if prefix else start for prefix in number]),
        distances,
        pad([np.asarray(label) for label in labels], IGNORED),
        pad(parents, 0),
    )


@contextmanager
def attends_as_tree(decoder: Any, tree: LabelTree) -> Iterator[None]:
    """Within, each node sees its ancestors and itself only, at their distance in the tree.

    T5 knows places by the position bias of self-attention alone, so this takes its place.

    Args:
        decoder: of a T5. Its first block has the bias, which T5 hands on, or each block has one (umT5).
    """

    def give_bias(attention: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        by_distance = attention.compute_bias(len(tree.tokens), 1, device=tree.tokens.device)[0, :, :, 0]
        hidden = torch.finfo(by_distance.dtype).min
        bias = by_distance[:, tree.distances.clamp(min=0)].masked_fill(tree.distances < 0, hidden)
        return args, {**kwargs, "position_bias": bias[None]}

    with ExitStack() as hooks:
        for block in decoder.block:
            attention: nn.Module = block.layer[0].SelfAttention
            if attention.has_relative_attention_bias:
                hooks.enter_context(attention.register_forward_pre_hook(give_bias, with_kwargs=True))
        yield
