"""The config that DeepSpeed gets: what the settings say, and what the user's JSON adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.deepspeed_json.keys import KEYS, SCHEDULERS
from hyperformer.settings.deepspeed_json.read import read_user_json
from hyperformer.settings.deepspeed_json.rules import FromSetting
from hyperformer.settings.precision import check_precision, sums_in_float32, zero_stage
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.deepspeed_config.batch import Batch


def engine_config(config: TrainingConfig, batch: Batch) -> dict[str, Any]:
    """The config for DeepSpeed. The user's file never changes what a setting says; it adds to it.

    Raises:
        ConfigError: the user's file cannot be read, contradicts a setting, or asks for what a run cannot honour;
            fp16 cannot be trained so.
    """
    check_precision(config)
    _check_device(config)
    added = read_user_json(config, batch.global_batch_size).passed
    return _nested({**_from_settings(config, batch), **added, **_schedule(config, added)})


def _check_device(config: TrainingConfig) -> None:
    from deepspeed.accelerator import get_accelerator

    if config.precision == "fp16" and not get_accelerator().is_fp16_supported():
        raise ConfigError(
            "precision is fp16, which DeepSpeed does not run on this device: write bf16 or fp32"
        )


def _from_settings(config: TrainingConfig, batch: Batch) -> dict[str, Any]:
    """Path of a key -> value. Keys of memory alone may be replaced by the user's."""
    stage = zero_stage(config)
    return {
        "train_batch_size": batch.global_batch_size,
        "train_micro_batch_size_per_gpu": batch.micro,
        "gradient_accumulation_steps": batch.accumulation,
        # Without this, DeepSpeed clips at 1.0; 0 switches clipping off.
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization.stage": stage,
        "bf16.enabled": config.precision == "bf16",
        "fp16.enabled": config.precision == "fp16",
        **({"data_types.grad_accum_dtype": "fp32"} if sums_in_float32(config.precision, stage) else {}),
        "zero_allow_untested_optimizer": True,
        # Offloaded, torch's fused AdamW is as quick as DeepSpeed's, which needs a compiler on every node.
        "zero_force_ds_cpu_optimizer": False,
        # DeepSpeed's own progress lines would come between ours.
        "steps_per_print": 10**9,
    }


def _schedule(config: TrainingConfig, added: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that the user's `scheduler` section takes from the settings, whether it has them or not."""
    if "scheduler.type" not in added:
        return {}
    _, names = SCHEDULERS[added["scheduler.type"]]
    rules = {path: KEYS[path] for name in names if (path := f"scheduler.params.{name}")}
    return {path: rule.value(config) for path, rule in rules.items() if isinstance(rule, FromSetting)}


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} -> {"a": {"b": 1}}"""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, name = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested
