"""The loss and the gradient of the steps: summed, logged, and refused where they are not finite numbers.

No step waits for the device here. Sums and flags stay on it, and are read where the run waits anyway: at a log
line, before a validation, and before a save. (DeepSpeed's ZeRO optimizers wait once per step, for the norm of
the gradient.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from hyperformer.errors import Diverged
from hyperformer.training.checkpoints.parameter_shards import base_optimizer
from hyperformer.training.numerics.finite import trained_weights_are_finite
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.train_state import TrainState

# In fp16, from the largest loss scale (2^32) to the smallest takes 34 skipped steps; a fixed scale never changes.
_MOST_SKIPPED_IN_A_ROW = 64


class StepNumbers:
    """What the optimizer steps of a run compute with. Every rank calls every method, in the same order.

    In fp16, a step whose scaled gradient overflows is skipped: the weights stay, its loss does not count, and the
    loss scale is lowered. In the other formats nothing is scaled, so such a gradient ends the run.

    Args:
        state: of the run; counts the skipped steps.
        loss: sum of this rank's losses since the last log line.
        newest: names the newest checkpoint, for messages.

    Attributes:
        loss: the same, now; stays on the device.
    """

    def __init__(
        self,
        engine: Any,
        state: TrainState,
        context: DistributedContext,
        loss: float,
        newest: Callable[[], str | None],
    ) -> None:
        self.engine, self.state, self.context, self.newest = engine, state, context, newest
        self.loss = torch.tensor(loss, device=context.device)
        self._loss_before = self.loss.clone()
        # The step of the first gradient that was not finite, where DeepSpeed does not check; 0: none was.
        self._not_finite = torch.zeros((), dtype=torch.int64, device=context.device)
        self._looks_itself = engine.optimizer is not base_optimizer(engine)
        self._norm: Tensor | None = None
        self._trained = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
        if not self._looks_itself:
            # DeepSpeed's own takes the norms again, multiplies tensor by tensor, and looks for parameters in all of T5.
            engine.clip_fp32_gradients, engine.zero_grad = self._clip, self._drop_gradients
        self._skipped_in_a_row = 0

    def after_backward(self, loss: Tensor) -> bool:
        """Count a forward's loss, and step the engine: the last forward of a step changes the weights.

        Returns:
            whether the step was skipped, if this was its last forward.

        Raises:
            Diverged: the gradient is not finite, and no smaller loss scale can help.
        """
        self.loss += loss.detach()
        if not self.engine.is_gradient_accumulation_boundary():
            self.engine.step()
            return False
        if not self._looks_itself:
            self._look_at_gradient()
        self._step_engine()
        if self.engine.was_step_applied():
            self._loss_before.copy_(self.loss)
            self._skipped_in_a_row = 0
            return False
        self._skip()
        return True

    def _look_at_gradient(self) -> None:
        """Note, on the device, whether the gradient of plain data parallelism is finite.

        A parameter that this step did not use gets a gradient of zero, so that AdamW moves it on any number of
        ranks alike: DeepSpeed does so where it reduces gradients.
        """
        for parameter in self._trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._norm = torch.stack(torch._foreach_norm(self._gradients())).pow(2).sum().pow(0.5)
        is_first = ~self._norm.isfinite() & (self._not_finite == 0)
        self._not_finite.masked_fill_(is_first, self.state.step + 1)

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._trained if parameter.grad is not None]

    def _clip(self) -> None:
        """Scale the gradient down to the largest norm that the settings allow; bit-identical to DeepSpeed on a CPU."""
        assert self._norm is not None  # the gradient was looked at
        norm = self.context.sum(self._norm / self.context.size)  # so that all ranks scale alike
        most = torch.full_like(norm, self.engine.gradient_clipping())  # made on the device, without a wait
        factor = (most / (norm + 1e-6)).clamp(max=1.0)
        # In the host's memory it can be read without a wait, and multiplying by one would be a pass over all gradients.
        if factor.device.type != "cpu" or factor.numpy() != 1:
            torch._foreach_mul_(self._gradients(), factor)

    def _drop_gradients(self) -> None:
        for parameter in self._trained:
            parameter.grad = None

    def _step_engine(self) -> None:
        try:
            self.engine.step()
        except Exception as error:
            # DeepSpeed raises this as a bare Exception.
            if type(error) is Exception and "loss scale already at minimum" in str(error):
                self._diverged(
                    f"the gradient of step {self.state.step + 1} overflows at the smallest loss scale"
                )
            raise

    def _skip(self) -> None:
        step = self.state.step + 1
        if not self.engine.fp16_enabled():
            self._diverged(f"the gradient of step {step} is not a finite number")
        self.state.skipped_steps += 1
        self._skipped_in_a_row += 1
        self.loss.copy_(self._loss_before)
        if self._skipped_in_a_row >= _MOST_SKIPPED_IN_A_ROW:
            self._diverged(
                f"the gradients of {self._skipped_in_a_row} steps in a row overflow, up to step {step}"
            )

    @property
    def loss_scale(self) -> float:
        """What fp16 multiplies the loss by now."""
        return float(self.engine.optimizer.loss_scale)

    def gradient_norm(self) -> float | None:
        """Norm of the last step's gradient before clipping; None: that step was skipped. Waits for the device."""
        found = self.engine.get_global_grad_norm() if self._looks_itself else self._norm
        norm = math.nan if found is None else float(found)
        return norm if math.isfinite(norm) else None

    def mean_loss(self) -> float | None:
        """Mean loss over the steps since the last line that were applied, and all ranks; None: none was.

        Raises:
            Diverged: it, or a gradient since, is not a finite number.
        """
        state = self.state
        # First the gradient: it names the step, and the losses after it are not numbers either.
        bad = 0 if self._looks_itself else int(self.context.maximum(self._not_finite))
        if bad:
            self._diverged(f"the gradient of step {bad} is not a finite number")
        steps = (state.step - state.logged_step) - (state.skipped_steps - state.logged_skipped)
        loss = self.context.sum(self.loss).item() / self.context.size / max(1, steps)
        if not math.isfinite(loss):
            self._diverged(f"the loss is {loss} at step {state.step}")
        return loss if steps else None

    def new_line(self) -> None:
        """A line with the mean loss was written; the next one counts from here."""
        self.loss.zero_()
        self._loss_before.zero_()
        self.state.logged_step, self.state.logged_skipped = self.state.step, self.state.skipped_steps

    def check(self, is_over: bool) -> None:
        """See that the weights may be saved or evaluated: all that was computed, and they, are finite numbers.

        Args:
            is_over: no step follows.

        Raises:
            Diverged: they are not, or the run ends and no step was applied.
        """
        self.mean_loss()
        are_finite = trained_weights_are_finite(self.engine).to(self.context.device, torch.int64)
        if int(self.context.maximum(1 - are_finite)):
            self._diverged(f"trained weights are not finite numbers after step {self.state.step}")
        if is_over and 0 < self.state.step == self.state.skipped_steps:
            self._diverged(
                f"none of the {self.state.step} steps was applied: the gradient of each overflowed"
            )

    def _diverged(self, what: str) -> NoReturn:
        raise Diverged(
            f"{what}: lower learning_rate, or write precision=fp32 or bf16; the last complete checkpoint is "
            f"{self.newest() or 'none'}"
        )
