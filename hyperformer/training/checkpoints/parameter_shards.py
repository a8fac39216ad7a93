"""Where DeepSpeed keeps what this rank holds of each trained parameter, in every ZeRO stage.

DeepSpeed keeps weights and optimizer state in flat buffers that depend on the
ranks, in a layout of its own for each stage. Here each is a :class:`ParameterShard`:
this rank's range of one parameter, as views into those buffers.

Private attributes of DeepSpeed are used in this file alone (and ``ds_numel`` in
:mod:`hyperformer.adapters.parameters`, which is below it).
``tests/training/deepspeed_config/test_deepspeed_shapes.py`` names each, and sees that DeepSpeed has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hyperformer.errors import CheckpointError

# What DeepSpeed counts, and the values of a loss scaler; a dynamic one has all of them.
ENGINE_COUNTS = ("global_steps", "global_samples", "skipped_steps")
SCALER_VALUES = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


@dataclass
class ParameterShard:
    """This rank's range of one trained parameter.

    Attributes:
        name: of the parameter.
        start, count: the range, in elements of the flattened parameter; `count` may be 0.
        key: the tensor under which the optimizer knows the buffer that holds the range.
        offset: where the range starts in that buffer.
        group: the optimizer's parameter group.
    """

    name: str
    parameter: nn.Parameter
    start: int
    count: int
    key: Tensor
    offset: int
    group: dict[str, Any]

    def view(self, buffer: Tensor) -> Tensor:
        """The range in a buffer of the key's shape: (count,), a view."""
        return buffer.detach().view(-1).narrow(0, self.offset, self.count)

    def share(self) -> Tensor:
        """The range in what this rank holds of a partitioned parameter itself: (count,), a view."""
        return held_part(self.parameter).data.view(-1)[: self.count]


def base_optimizer(engine: Any) -> torch.optim.Optimizer:
    """The optimizer itself, without DeepSpeed's wrapper."""
    return getattr(engine.optimizer, "optimizer", engine.optimizer)


def shards(engine: Any) -> Iterator[ParameterShard]:
    """This rank's shards, in the order of the model's parameters.

    Raises:
        CheckpointError: DeepSpeed keeps the state in a layout that is not known here.
    """
    outer, base = engine.optimizer, base_optimizer(engine)
    places = {} if outer is base or is_partitioned(engine) else _unpartitioned(outer, base)
    for name, parameter in engine.module.named_parameters():
        if not parameter.requires_grad:
            continue
        if is_partitioned(engine):
            yield _stage_3(name, parameter, outer, base)
        elif hasattr(parameter, "_hp_mapping"):
            shard = _stage_1_or_2(name, parameter, base)
            if shard is not None:
                yield shard
        elif outer is base:
            group = next(g for g in base.param_groups if any(p is parameter for p in g["params"]))
            yield ParameterShard(name, parameter, 0, parameter.numel(), parameter, 0, group)
        elif parameter in places:
            yield ParameterShard(name, parameter, 0, parameter.numel(), *places[parameter])
        else:
            raise CheckpointError(
                f"the state of {type(outer).__name__}, which deepspeed_config asks for, cannot be saved"
            )


def _stage_3(name: str, parameter: Any, outer: Any, base: Any) -> ParameterShard:
    """Every rank has an equal part of each parameter; the last ones are padded."""
    number, offset, count = outer.grad_position[outer.get_param_id(parameter)]
    start = outer._get_param_partition_rank(parameter) * count
    real = max(0, min(count, parameter.ds_numel - start))
    group = base.param_groups[outer.sub_group_to_group_id[number]]
    return ParameterShard(
        name, parameter, start, real, outer.fp32_partitioned_groups_flat[number], offset, group
    )


def _stage_1_or_2(name: str, parameter: Any, base: Any) -> ParameterShard | None:
    """A rank has a part of the concatenation of all parameters: of most of them, all or nothing."""
    mapping = parameter._hp_mapping
    if mapping is None:
        return None
    address, group = mapping.hp_fragment_address, base.param_groups[mapping.param_group_index]
    start = mapping.lp_fragment_address.start
    return ParameterShard(name, parameter, start, address.numel, group["params"][0], address.start, group)


def _unpartitioned(outer: Any, base: Any) -> dict[nn.Parameter, tuple[Tensor, int, dict[str, Any]]]:
    """Stage 0 in half precision: a float32 copy of each parameter."""
    return {
        half: (group["params"][place], 0, group)
        for group, halves in zip(base.param_groups, getattr(outer, "fp16_groups", []), strict=False)
        for place, half in enumerate(halves)
    }


def is_partitioned(engine: Any) -> bool:
    """Whether the parameters are partitioned over the ranks (ZeRO stage 3)."""
    return engine.zero_optimization_stage() == 3


def held_part(parameter: Any) -> Tensor:
    """What this rank holds of a parameter: its part, padded, if it is partitioned; else all of it."""
    return getattr(parameter, "ds_tensor", parameter)


def whole_numel(parameter: Any) -> int:
    """Elements of a parameter, on all ranks together if it is partitioned."""
    return getattr(parameter, "ds_numel", parameter.numel())


def share_with_model(engine: Any) -> bool:
    """Have each rank write its shards into the model, and send them to the others; False: this engine cannot.

    Every rank calls this.
    """
    if not hasattr(engine.optimizer, "update_lp_params"):
        return False
    engine.optimizer.update_lp_params()
    return True


@contextmanager
def at_rest(engine: Any) -> Iterator[None]:
    """In this block no partitioned parameter is in flight: those prefetched for the next module are released.

    Otherwise a parameter that is gathered by hand may be in flight, and the next
    forward fails ("already in registry"). DeepSpeed does the same around its own checkpoints.
    """
    if is_partitioned(engine):
        engine.optimizer.checkpoint_event_prologue()
    yield
    if is_partitioned(engine):
        engine.optimizer.checkpoint_event_epilogue()


def loss_scaler(engine: Any) -> Any:
    """The object that holds the loss scale, under one of two names; or None."""
    for name in ("loss_scaler", "loss_scale_config"):
        found = getattr(engine.optimizer, name, None)
        if hasattr(found, "cur_scale"):
            return found
    return None
