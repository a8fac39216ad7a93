"""Loss, optimizer and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers.models.t5.modeling_t5 import T5LayerNorm

from hyperformer.adapters.modules import SiteNorms
from hyperformer.config import TrainingConfig
from hyperformer.data.collate import IGNORED

# The end of the polynomial schedule, as transformers has it.
_POLYNOMIAL_END = 1e-7


def token_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Label-smoothed cross-entropy, summed over the tokens that count.

    Args:
        logits: (B, S, V); labels: (B, S), ``IGNORED`` where padded.
        smoothing: share of the target spread evenly over all V pieces
            (Szegedy et al. 2016), as in the authors' code.
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Trained parameters in two groups: with decay, and without (biases, layer norms).

    Told by module, not by name: a generator of biases is a weight like any other.
    """
    norms = (nn.LayerNorm, T5LayerNorm, SiteNorms)
    exempt = {
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, norms) or name == "bias" or name.endswith("_bias")
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p not in exempt], "weight_decay": weight_decay},
        {"params": [p for p in trained if p in exempt], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over what trains, and nothing else."""
    groups = [group for group in parameter_groups(model, config.weight_decay) if group["params"]]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )


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
    """The schedule for DeepSpeed's engine, which steps it after every optimizer step."""
    return LambdaLR(optimizer, learning_rate_factor(config))
