"""The learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR

from hyperformer.settings.schema import TrainingConfig

# The last learning rate of the polynomial schedule, as in transformers.
_POLYNOMIAL_END = 1e-7


def learning_rate_factor(config: TrainingConfig) -> Callable[[int], float]:
    """Step -> share of the peak learning rate: linear warm-up, then the schedule."""
    warmup, steps, kind = config.warmup_steps, config.max_steps, config.lr_scheduler

    def factor(step: int) -> float:
        if step < warmup and kind != "constant":
            return step / max(1, warmup)
        progress = (step - warmup) / max(1, steps - warmup)
        if kind == "linear":
            return max(0.0, 1.0 - progress)
        if kind == "cosine":
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
        if kind == "polynomial":
            end = _POLYNOMIAL_END / config.learning_rate
            return end if step > steps else (1.0 - end) * (1.0 - progress) + end
        return 1.0

    return factor


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig) -> LambdaLR:
    """The schedule for DeepSpeed's engine, which steps it after each optimizer step."""
    return LambdaLR(optimizer, learning_rate_factor(config))
