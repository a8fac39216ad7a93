"""What a DeepSpeed engine knows, by parameter name: the same for every ZeRO stage and number of ranks.

Saving reads the views of :mod:`~hyperformer.training.checkpoints.parameter_shards`, loading
writes them; a shard can be read from the other shards of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hyperformer.training.checkpoints.parameter_shards import (
    ENGINE_COUNTS,
    SCALER_VALUES,
    ParameterShard,
    at_rest,
    base_optimizer,
    is_partitioned,
    loss_scaler,
    shards,
    share_with_model,
    whole_numel,
)
from hyperformer.training.checkpoints.saved_shards import WEIGHTS, SavedShards, shard_key


def tensors(engine: Any, rank: int) -> list[tuple[str, Tensor]]:
    """Keys and views of what this rank writes; nothing that another rank writes too."""
    if rank and engine.zero_optimization_stage() == 0:
        return []
    found, base = [], base_optimizer(engine)
    for shard in shards(engine):
        if shard.count:
            found.append((shard_key(shard.name, WEIGHTS, shard.start), shard.view(shard.key)))
        for kind, value in base.state.get(shard.key, {}).items():
            if torch.is_tensor(value) and value.shape == shard.key.shape and value.dim():
                if shard.count:
                    found.append((shard_key(shard.name, kind, shard.start), shard.view(value)))
            elif torch.is_tensor(value):
                found.append((shard_key(shard.name, kind), value))
            else:
                found.append((shard_key(shard.name, f"{kind}:number"), torch.tensor(value)))
    unique = dict(found)
    return list(unique.items())


def trained_sizes(engine: Any) -> dict[str, int]:
    """Every parameter that trains -> its number of elements, whatever part of it this rank holds."""
    return {name: whole_numel(p) for name, p in engine.module.named_parameters() if p.requires_grad}


def load_tensors(engine: Any, saved: SavedShards) -> None:
    """Restore weights and optimizer state, which :meth:`ShardIndex.check` has accepted. Every rank calls this."""
    base = base_optimizer(engine)
    with at_rest(engine):
        for shard in shards(engine):
            _load_piece(shard, base, saved)
            if is_partitioned(engine) and shard.count:
                shard.share().copy_(shard.view(shard.key))
    if engine.optimizer is base or is_partitioned(engine) or share_with_model(engine):
        return
    trained = {name: p for name, p in engine.module.named_parameters() if p.requires_grad}
    put_weights(
        engine,
        {name: lambda n=name, p=p: saved.read(n, WEIGHTS, 0, p.numel()) for name, p in trained.items()},
    )


def _load_piece(shard: ParameterShard, base: torch.optim.Optimizer, saved: SavedShards) -> None:
    state = base.state[shard.key]
    for kind in saved.index.kinds(shard.name):
        if kind != WEIGHTS and kind not in state:
            # Before its first step an optimizer has no state.
            state[kind] = torch.zeros_like(shard.key, requires_grad=False)
        target = shard.view(shard.key if kind == WEIGHTS else state[kind])
        if shard.count:
            target.copy_(saved.read(shard.name, kind, shard.start, shard.count))
    on_device = shard.group.get("fused") or shard.group.get("capturable")
    for kind, value in saved.whole(shard.name).items():
        name, _, number = kind.partition(":")
        if number:
            state[name] = value.item()
        else:
            # As torch's Optimizer.load_state_dict: a count of steps is on the device for fused kernels only.
            state[name] = value.to(shard.key.device if on_device or value.dim() else "cpu")


def put_weights(engine: Any, weights: dict[str, Any]) -> None:
    """Write weights into the model's parameters, not into the optimizer's copies. Every rank calls this.

    Args:
        weights: parameter name -> a function that reads it.
    """
    import deepspeed

    partitioned = is_partitioned(engine)
    with at_rest(engine), torch.no_grad():
        for name, parameter in engine.module.named_parameters():
            if name in weights:
                # A partitioned parameter is gathered, and distributed again as rank 0 has written it.
                with deepspeed.zero.GatheredParameters(parameter, modifier_rank=0, enabled=partitioned):
                    if not partitioned or torch.distributed.get_rank() == 0:
                        parameter.copy_(weights[name]().view(parameter.shape))


def trained_weights(engine: Any, also: Callable[[str], bool] = lambda name: False) -> dict[str, Tensor]:
    """The parameters that train, by name, on the CPU of rank 0; {} on the others. Every rank calls this.

    Args:
        also: whether a parameter of that name is included even if it does not train.
    """
    import deepspeed

    weights = {}
    with at_rest(engine):
        for name, parameter in engine.module.named_parameters():
            if parameter.requires_grad or also(name):
                with deepspeed.zero.GatheredParameters(parameter, enabled=is_partitioned(engine)):
                    if torch.distributed.get_rank() == 0:
                        weights[name] = parameter.detach().to("cpu", copy=True)
    return weights


def counters(engine: Any) -> dict[str, Any]:
    """Schedule, loss scaler, and the engine's counts, as plain JSON."""
    scaler, schedule = loss_scaler(engine), engine.lr_scheduler
    return {
        "engine": {name: getattr(engine, name) for name in ENGINE_COUNTS},
        "groups": [
            {key: value for key, value in group.items() if _is_plain(value)}
            for group in base_optimizer(engine).param_groups
        ],
        "schedule": {k: v for k, v in schedule.state_dict().items() if _is_plain(v)} if schedule else None,
        "scaler": {
            name: getattr(scaler, name) for name in SCALER_VALUES if _is_plain(getattr(scaler, name, None))
        },
    }


def load_counters(engine: Any, values: dict[str, Any]) -> None:
    """The inverse of :func:`counters`."""
    for name in ENGINE_COUNTS:
        setattr(engine, name, values["engine"][name])
    for group, saved in zip(base_optimizer(engine).param_groups, values["groups"], strict=True):
        group.update({k: tuple(v) if isinstance(group.get(k), tuple) else v for k, v in saved.items()})
    if engine.lr_scheduler is not None:
        engine.lr_scheduler.load_state_dict({**engine.lr_scheduler.state_dict(), **values["schedule"]})
    scaler = loss_scaler(engine)
    for name, value in values["scaler"].items():
        setattr(scaler, name, value)


def _is_plain(value: Any) -> bool:
    """Whether a value survives JSON."""
    if isinstance(value, list | tuple):
        return all(_is_plain(part) for part in value) and bool(value)
    return isinstance(value, bool | int | float | str)
