"""What takes a device's memory in training, and what would make it less."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.checkpoints.parameter_shards import base_optimizer, held_part, whole_numel
from hyperformer.training.deepspeed_config.batch import Batch

# Adam's two moments of a trained parameter; the float32 copy of one that is in half precision.
_MOMENTS = 8
_MASTER = 4
# What saves less than this share of the memory is not advice.
_WORTH = 0.02


def peak_memory() -> int:
    """The most memory that this process held, in bytes: on the GPU if there is one, else in RAM."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class MemoryUse:
    """Bytes on one device, and the numbers that they follow from.

    Attributes:
        weights: of the model, as this rank holds them.
        trained: number of trained parameters, of all ranks together.
        width: bytes per gradient.
        stage: ZeRO stage.
        peak: the most that was taken; None: not known.
        offloaded: the optimizer is on the CPU (ZeRO-Offload).
    """

    weights: int
    trained: int
    width: int
    stage: int
    ranks: int
    peak: int | None = None
    offloaded: bool = False

    def gradients(self, stage: int | None = None) -> float:
        """Bytes of gradients, under this ZeRO stage or another."""
        return self.width * self.trained / self._share(2, stage)

    def optimizer(self, stage: int | None = None) -> float:
        """Bytes of optimizer state, float32 copies included."""
        if self.offloaded:
            return 0.0
        each = _MOMENTS + (_MASTER if self.width < _MASTER else 0)
        return each * self.trained / self._share(1, stage)

    def all_weights(self, stage: int | None = None) -> float:
        """Bytes of weights, under this ZeRO stage or another."""
        return self.weights * self._share(3, None) / self._share(3, stage)

    def _share(self, first: int, stage: int | None) -> int:
        """Ranks that share what is partitioned from stage `first` on."""
        return self.ranks if (self.stage if stage is None else stage) >= first else 1

    @property
    def held(self) -> float:
        """Bytes that are held from step to step."""
        return self.weights + self.gradients() + self.optimizer()

    @property
    def activations(self) -> float | None:
        """Bytes of all else at the peak: activations and workspace, which grow with the rows and their lengths."""
        return None if self.peak is None else max(0.0, self.peak - self.held)

    def saved_by(self, stage: int) -> float:
        """Bytes that a higher ZeRO stage saves on this device; its buffers, sized by what trains, come on top."""
        now = self.gradients() + self.optimizer() + self.weights
        return now - self.gradients(stage) - self.optimizer(stage) - self.all_weights(stage)


def memory_use(engine: Any, ranks: int) -> MemoryUse:
    """What an engine's model and optimizer take on this device."""
    trained = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
    return MemoryUse(
        weights=sum(_held(parameter) for parameter in engine.module.parameters()),
        trained=sum(whole_numel(parameter) for parameter in trained),
        width=max((parameter.element_size() for parameter in trained), default=4),
        stage=int(engine.zero_optimization_stage()),
        ranks=ranks,
        peak=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        offloaded=bool(engine.zero_use_cpu_optimizer()),
    )


def _held(parameter: nn.Parameter) -> int:
    """Bytes of a parameter here: of its partition, if it is partitioned."""
    tensor = held_part(parameter)
    return tensor.numel() * tensor.element_size()


def missing_moments(engine: Any, device: torch.device) -> int:
    """Bytes on `device` that Adam will take at its first step; 0 if it has its moments."""
    optimizer = base_optimizer(engine)
    if optimizer.state or "betas" not in optimizer.defaults:
        return 0
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.device == device]
    return sum(2 * parameter.numel() * parameter.element_size() for parameter in parameters)


def explain(use: MemoryUse, training: TrainingConfig, batch: Batch, lengths: tuple[int, int]) -> str:
    """What takes the memory, and what would help beside fewer rows per forward, with what it saves.

    Args:
        lengths: the most source and target tokens of a training row.
    """
    activations = "" if use.activations is None else f" {_gib(use.activations)}"
    taken = (
        f"weights {_gib(use.weights)}, gradients {_gib(use.gradients())}, optimizer {_gib(use.optimizer())}, "
        f"activations of {batch.micro} rows of {lengths[0]} + {lengths[1]} tokens{activations}"
    )
    helps = "; ".join(_remedies(use, training))
    return f"What takes the memory of a device: {taken}. What would help: {helps}"


def _remedies(use: MemoryUse, training: TrainingConfig) -> Iterator[str]:
    if not training.gradient_checkpointing:
        yield "gradient_checkpointing=true (keeps a fraction of the activations; slower; same result)"
    worth = _WORTH * (use.peak or use.held)
    stages = [stage for stage in range(use.stage + 1, 4) if use.saved_by(stage) > worth]
    best = max(stages, key=use.saved_by, default=None)
    if best is not None:
        yield f"zero_stage={best} (saves {_gib(use.saved_by(best))} on each of {use.ranks} ranks)"
    if training.precision == "fp32":
        yield "precision=bf16 (half the weights and activations; another result)"
    yield "smaller max_source_length and max_target_length (another result)"
    yield "a GPU with more memory"


def _gib(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{math.ceil(size / 2**20)} MiB"
