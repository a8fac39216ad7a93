"""The optimizer, and how its parameters are grouped: by weight decay and learning rate."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from hyperformer.adapters.methods.hypernetworks import generator_parameters
from hyperformer.adapters.modules import SiteNorms, task_row_parameters
from hyperformer.settings.schema import TrainingConfig


def no_decay_parameters(model: nn.Module, *, by_name: bool) -> set[nn.Parameter]:
    """Parameters without weight decay: biases and layer norms.

    Args:
        by_name: the authors' rule, which looks at names alone. It also exempts
            the generators of biases and T5's position biases, and lets T5's and
            the adapters' plain layer norms decay.
    """
    if by_name:
        named = model.named_parameters()
        return {p for name, p in named if "bias" in name or name.endswith("embedding_norm.weight")}
    norms = (nn.LayerNorm, T5LayerNorm, SiteNorms)
    return {
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, norms) or name == "bias" or name.endswith("_bias")
    }


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict]:
    """Trained parameters with decay, and without (:func:`no_decay_parameters`); then so the generators', if
    they have a learning rate of their own."""
    exempt = no_decay_parameters(model, by_name=config.reference_optimizer)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    sets: list[tuple[list[nn.Parameter], dict[str, float]]] = [(trained, {})]
    if config.generator_learning_rate is not None:
        generators = generator_parameters(model)
        own = {"lr": config.generator_learning_rate}
        sets = [
            ([p for p in trained if p not in generators], {}),
            ([p for p in trained if p in generators], own),
        ]
    groups = [
        {"params": [p for p in some if (p in exempt) is spared], "weight_decay": decay, **own}
        for some, own in sets
        for spared, decay in ((False, config.weight_decay), (True, 0.0))
    ]
    return [group for group in groups if group["params"]]


class ReferenceAdamW(torch.optim.Optimizer):
    """AdamW as the authors ran it (transformers 3.5 under torch 1.7), to reproduce their training.

    Differences from torch today: epsilon is added before the bias correction, decay
    comes after the update, and a parameter's bias correction counts from its
    own first gradient. So does each row of `task_rows`, parameters whose rows
    belong to different tasks: in the authors' code, each is a parameter of its own.
    """

    def __init__(self, params: Any, task_rows: Collection[nn.Parameter] = (), **settings: Any) -> None:
        super().__init__(params, {"weight_decay": 0.0, **settings})
        self._task_rows = task_rows

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            rows = parameter.shape[0] if parameter in self._task_rows else 1
            state["steps"] = torch.zeros(rows, device=parameter.device)
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        steps, mean, square = state["steps"], state["mean"], state["square"]
        rows = len(steps)
        drawn = (
            gradient.reshape(rows, -1).any(dim=1) if rows > 1 else torch.ones_like(steps, dtype=torch.bool)
        )
        steps += (steps > 0) | drawn
        first, second = group["betas"]
        mean.mul_(first).add_(gradient, alpha=1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        # A row that was never drawn has moments of zero; its step size must only not be 0/0.
        count = steps.clamp(min=1)
        size = group["lr"] * (1 - second**count).sqrt() / (1 - first**count)
        wide = (-1, *[1] * (parameter.dim() - 1))
        parameter.sub_(size.view(wide) * (mean / (square.sqrt() + group["eps"])))
        if group["weight_decay"]:
            decay = group["lr"] * group["weight_decay"] * (steps > 0)
            parameter.sub_(decay.view(wide) * parameter)


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW over the parameters that train."""
    groups = parameter_groups(model, config)
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (config.adam_beta1, config.adam_beta2),
        "eps": config.adam_epsilon,
    }
    if config.reference_optimizer:
        return ReferenceAdamW(groups, task_row_parameters(model), **settings)
    # Fused: one pass over memory instead of a dozen, a quarter of the time on CPU and GPU.
    return torch.optim.AdamW(groups, fused=True, **settings)
