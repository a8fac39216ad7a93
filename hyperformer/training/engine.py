"""The DeepSpeed engine and its config."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from torch import nn

from hyperformer.config import TrainingConfig
from hyperformer.errors import ConfigError
from hyperformer.training.distributed import World
from hyperformer.training.optimization import make_optimizer, make_schedule


def global_batch_size(config: TrainingConfig, world_size: int) -> int:
    """Rows a step: micro batch x accumulation x ranks."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * world_size


def deepspeed_config(config: TrainingConfig, world_size: int) -> dict[str, Any]:
    """The JSON for DeepSpeed: ours, or the user's file with its "auto" values filled in.

    Raises:
        ConfigError: the user's file cannot be read, or its batch sizes contradict ours.
    """
    ours: dict[str, Any] = {
        "train_batch_size": global_batch_size(config, world_size),
        "train_micro_batch_size_per_gpu": config.per_device_train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        # DeepSpeed clips at 1.0 where the config is silent; 0 switches clipping off.
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.precision == "bf16"},
        "fp16": {"enabled": config.precision == "fp16"},
        # Its own progress lines would come between ours.
        "steps_per_print": 10**9,
    }
    if config.deepspeed_config is None:
        return ours
    theirs = _read(Path(config.deepspeed_config))
    filled = {key: ours[key] if value == "auto" and key in ours else value for key, value in theirs.items()}
    for key in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"):
        if filled.setdefault(key, ours[key]) != ours[key]:
            raise ConfigError(
                f"{config.deepspeed_config}: {key} is {filled[key]}, but the run's settings make it {ours[key]} "
                f"(per_device_train_batch_size {config.per_device_train_batch_size} x "
                f"gradient_accumulation_steps {config.gradient_accumulation_steps} x {world_size} ranks); "
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


def make_engine(model: nn.Module, config: TrainingConfig, world: World) -> Any:
    """``deepspeed.initialize`` over `model`, whose `requires_grad` is final by now.

    Raises:
        ConfigError: a number format that the device does not have.
    """
    import deepspeed

    if config.precision == "fp16" and world.device.type == "cpu":
        raise ConfigError("precision is fp16, which DeepSpeed does not run on the CPU: write bf16 or fp32")
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    settings = deepspeed_config(config, world.size)
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
        # How DeepSpeed refuses settings; ours are tested, so these are the file's.
        raise ConfigError(f"{config.deepspeed_config}: DeepSpeed does not take it: {error}") from error
    return engine


def is_partitioned(engine: Any) -> bool:
    """Whether the parameters are spread over the ranks (ZeRO stage 3)."""
    return engine.zero_optimization_stage() == 3
