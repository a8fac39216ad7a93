"""Whether tensors hold finite numbers only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hyperformer.training.checkpoints.parameter_shards import held_part


def are_finite(tensors: Iterable[Tensor]) -> Tensor:
    """True or False, on the device of the first tensor; nothing waits for it here."""
    # The largest absolute value: unlike a sum of squares, it never overflows, and NaN is passed on.
    return torch.nn.utils.get_total_norm([each for each in tensors if each.numel()], math.inf).isfinite()


def trained_weights_are_finite(engine: Any) -> Tensor:
    """As :func:`are_finite`: of this rank's part of what trains, in the format that the model computes in.

    So a weight counts that float32 holds and fp16 does not.
    """
    trained = (parameter for parameter in engine.module.parameters() if parameter.requires_grad)
    # A partitioned parameter (ZeRO stage 3) is empty between two uses.
    return are_finite(held_part(parameter).detach() for parameter in trained)
