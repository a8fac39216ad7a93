"""The config that DeepSpeed gets: from the settings, and from the user's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.deepspeed_config.batch import Batch


def engine_config(config: TrainingConfig, batch: Batch) -> dict[str, Any]:
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
