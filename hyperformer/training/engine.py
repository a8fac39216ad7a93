"""The DeepSpeed engine and its config."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hyperformer.errors import ConfigError
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.distributed import DistributedContext
from hyperformer.training.optimization import make_optimizer, make_schedule


@dataclass(frozen=True)
class Batch:
    """How the rows of a step are divided: ``micro`` x ``accumulation`` x ``ranks``.

    Attributes:
        micro: rows per device and forward.
        accumulation: forwards per step.
        ranks: number of ranks now.
        ranks_at_first: number of ranks that the run started with; the settings' micro-batch and
            accumulation on each of them make the same global batch.
    """

    micro: int
    accumulation: int
    ranks: int
    ranks_at_first: int

    @property
    def global_batch_size(self) -> int:
        """Rows per step; it never changes in a run."""
        return self.micro * self.accumulation * self.ranks


def make_batch(
    config: TrainingConfig, ranks: int, *, micro_batch_splits: int = 1, global_batch_size: int | None = None
) -> Batch:
    """The batch for this number of ranks: the global batch stays, gradient accumulation changes.

    Args:
        micro_batch_splits: forwards that share what the settings call a micro-batch (recovery.json).
        global_batch_size: of the checkpoint that the run resumes from; None: the settings on
            these ranks make it.

    Raises:
        ConfigError: the global batch cannot be divided among the ranks.
    """
    rows = global_batch_size or config.rows_per_rank * ranks
    if rows % ranks:
        fit = [str(number) for number in range(1, rows + 1) if rows % number == 0]
        raise ConfigError(
            f"the run has a global batch of {rows} rows, which {ranks} ranks cannot share evenly; "
            f"{', '.join(fit)} would fit"
        )
    most = max(1, config.per_device_train_batch_size // micro_batch_splits)
    micro = next(number for number in range(most, 0, -1) if rows // ranks % number == 0)
    return Batch(micro, rows // ranks // micro, ranks, rows // config.rows_per_rank)


def deepspeed_config(config: TrainingConfig, batch: Batch) -> dict[str, Any]:
    """The config for DeepSpeed: ours, or the user's file with its "auto" values filled in.

    Raises:
        ConfigError: the user's file cannot be read, or its batch sizes contradict ours.
    """
    ours: dict[str, Any] = {
        "train_batch_size": batch.global_batch_size,
        "train_micro_batch_size_per_gpu": batch.micro,
        "gradient_accumulation_steps": batch.accumulation,
        # Without this, DeepSpeed clips at 1.0; 0 switches clipping off.
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.precision == "bf16"},
        "fp16": {"enabled": config.precision == "fp16"},
        # DeepSpeed's own progress lines would come between ours.
        "steps_per_print": 10**9,
    }
    if config.deepspeed_config is None:
        return ours
    theirs = _read(Path(config.deepspeed_config))
    filled = {key: ours[key] if value == "auto" and key in ours else value for key, value in theirs.items()}
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        if filled.setdefault(key, ours[key]) != ours[key]:
            raise ConfigError(
                f"{config.deepspeed_config}: {key} is {filled[key]}, but the run makes it {ours[key]} "
                f"(micro-batch {batch.micro} x accumulation {batch.accumulation} x {batch.ranks} ranks); "
                'write "auto" there'
            )
    return {
        **{
            key: ours[key]
            for key in ("gradient_clipping", "steps_per_print", "zero_allow_untested_optimizer")
        },
        **filled,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"deepspeed_config: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"deepspeed_config: {path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"deepspeed_config: {path} must be one JSON object")
    return values


def make_engine(model: nn.Module, config: TrainingConfig, batch: Batch, context: DistributedContext) -> Any:
    """``deepspeed.initialize`` over `model`, whose `requires_grad` is final by now.

    Raises:
        ConfigError: the device does not have the number format, or DeepSpeed refuses the user's file.
    """
    import deepspeed

    if config.precision == "fp16" and context.device.type == "cpu":
        raise ConfigError("precision is fp16, which DeepSpeed does not run on the CPU: write bf16 or fp32")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    settings = deepspeed_config(config, batch)
    optimizer = None if "optimizer" in settings else make_optimizer(model, config)
    schedule = None
    if "scheduler" not in settings:
        schedule = make_schedule(optimizer, config) if optimizer else lambda made: make_schedule(made, config)
    try:
        engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, lr_scheduler=schedule, config=settings, dist_init_required=False
        )
    except (ValueError, TypeError, AssertionError) as error:
        if config.deepspeed_config is None:
            raise
        # So DeepSpeed refuses settings; ours are tested, so the cause is in the file.
        raise ConfigError(f"{config.deepspeed_config}: DeepSpeed does not take it: {error}") from error
    return engine


def is_partitioned(engine: Any) -> bool:
    """Whether the parameters are partitioned over the ranks (ZeRO stage 3)."""
    return engine.zero_optimization_stage() == 3
