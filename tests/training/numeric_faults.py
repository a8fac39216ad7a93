"""What a run in a fork is given to compute with: fp16 on a CPU, and numbers that are not finite.

Each function changes this process; forked_runs.py calls them by name.
"""

from __future__ import annotations

from typing import Any

import torch


def fp16_on_cpu(power: int | None = None) -> None:
    """Let DeepSpeed run fp16 on any CPU: it takes only those with instructions for it.

    Args:
        power: of 2, the first loss scale; None: DeepSpeed's, 16.
    """
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    from hyperformer.training import engine

    CPU_Accelerator.is_fp16_supported = lambda self: True
    real = engine.engine_config

    def with_scale(*arguments: Any) -> dict[str, Any]:
        made = real(*arguments)
        made["fp16"] |= {} if power is None else {"initial_scale_power": power}
        return made

    engine.engine_config = with_scale


def no_fp16() -> None:
    """Some CPUs have it."""
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    CPU_Accelerator.is_fp16_supported = lambda self: False


def unchecked() -> None:
    """Save whatever the weights are, as earlier versions did."""
    from hyperformer.training.numerics.step_numbers import StepNumbers

    StepNumbers.check = lambda self, max_steps: None


def infinite_loss(*forwards: int) -> None:
    """Make the loss of these forwards (counted from 1 in this process) infinite."""
    _change_loss(forwards, lambda logits, loss: loss * torch.inf)


def infinite_gradient(*forwards: int) -> None:
    """Make the gradient of these forwards infinite; their loss stays finite."""

    def change(logits: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        logits.register_hook(lambda gradient: gradient * torch.inf)
        return loss

    _change_loss(forwards, change)


def _change_loss(forwards: tuple[int, ...], change: Any) -> None:
    from hyperformer.training.optimization import loss as loss_module

    real, count = loss_module.token_loss, [0]

    def token_loss(logits: torch.Tensor, *arguments: Any) -> torch.Tensor:
        count[0] += 1
        loss = real(logits, *arguments)
        return change(logits, loss) if count[0] in forwards else loss

    loss_module.token_loss = token_loss


def no_waiting() -> None:
    """Raise where a step reads a number from the device."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from hyperformer.training.numerics.step_numbers import StepNumbers

    class NoReading(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.ops.aten._local_scalar_dense.default:
                raise AssertionError("a number was read from the device")
            return function(*args, **(kwargs or {}))

    real = StepNumbers.after_backward

    def after_backward(self: StepNumbers, loss: torch.Tensor) -> bool:
        with NoReading():
            return real(self, loss)

    StepNumbers.after_backward = after_backward


def huge_update(step: int) -> None:
    """Multiply the weights by infinity in an optimizer step, after a finite gradient."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    count = [0]

    def change(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        count[0] += 1
        if count[0] >= step:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.data.mul_(torch.inf)

    register_optimizer_step_post_hook(change)


def print_gradients() -> None:
    """Print the sum of squares of each gradient that the optimizer sees."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def tell(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen = [
            p.grad.double() for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        print("gradient", float(sum(gradient.square().sum() for gradient in seen)))

    register_optimizer_step_pre_hook(tell)
