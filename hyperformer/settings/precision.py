"""What follows from a run's number format. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.schema import TrainingConfig

UNSCALED_FP16 = (
    "DeepSpeed scales the loss of fp16 in ZeRO stages 1 to 3 only, but divides the gradients by the scale in stage 0 "
    "too, which then are nearly zero"
)


def zero_stage(training: TrainingConfig) -> int:
    """The ZeRO stage of a run: as it is set; else 0 in fp32, and 1 in bf16 and fp16.

    Stage 0 does not train fp16 (:data:`UNSCALED_FP16`). In bf16 it sums gradients in bf16, waits for the
    device once per parameter, and takes an Adam step with a gradient of zero before the first one.
    """
    return _stage(training.precision, training.zero_stage)


def _stage(precision: str, stage: Any) -> Any:
    return int(precision != "fp32") if stage is None else stage


def sums_in_float32(precision: str, stage: int) -> bool:
    """Whether gradients have a wider format than the model: a sum of many bf16 numbers loses the small ones.

    DeepSpeed's stage 0 cannot.
    """
    return precision == "bf16" and stage > 0


def precision_in_signature(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What the signature holds of the number format, beside `precision`, of flat settings.

    Earlier versions had stage 0 as the default, and summed bf16 gradients in bf16. A run that trains
    now as it did then has the signature that it had then.
    """
    precision = flat.get("precision", "fp32")
    stage = _stage(precision, flat.get("zero_stage"))
    sums = {"gradient_sums": "fp32"} if sums_in_float32(precision, stage) else {}
    return {"zero_stage": stage, **sums} if stage else {}


def check_precision(training: TrainingConfig) -> None:
    """See that a run that starts can be trained in its number format.

    Raises:
        ConfigError: it is fp16 in stage 0. Runs of versions that took no notice can still be read.
    """
    if training.precision == "fp16" and zero_stage(training) == 0:
        raise ConfigError(
            f"zero_stage is 0, but precision is fp16: {UNSCALED_FP16}. Leave zero_stage out, or write zero_stage=1"
        )
