"""ZeRO's buffers, by what there is to reduce and to gather; DeepSpeed's defaults are for models of billions.

Its buckets of 5e8 elements take 1.9 GiB in float32, of which adapters need a few MiB. Its limits of stage 3
keep a model below 1e9 parameters whole on every rank, so that partitioning it saves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

# Elements: messages of this size use a network fully.
_BUCKET = 50_000_000
# Share of all parameters that is whole on a rank at a time in stage 3, and that is fetched ahead.
_LIVE, _AHEAD = 4, 20


def size_buckets(settings: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """DeepSpeed's config with the sizes of ZeRO's buffers that it leaves open, or "auto".

    Args:
        settings: config for DeepSpeed.
        model: `requires_grad` of its parameters is final.
    """
    zero = settings.get("zero_optimization", {})
    if not zero.get("stage", 0):
        return dict(settings)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    bucket = _even(min(_BUCKET, trained))
    wanted = {"reduce_bucket_size": bucket, "allgather_bucket_size": bucket}
    if zero["stage"] == 3:
        live = _even(total // _LIVE)
        wanted |= {
            "stage3_max_live_parameters": live,
            "stage3_max_reuse_distance": live,
            "stage3_prefetch_bucket_size": min(_BUCKET, _even(total // _AHEAD)),
        }
    given = {key: value for key, value in zero.items() if value != "auto"}
    return {**settings, "zero_optimization": wanted | given}


def _even(size: int) -> int:
    """DeepSpeed wants even sizes, above 0."""
    return max(2, size + size % 2)
