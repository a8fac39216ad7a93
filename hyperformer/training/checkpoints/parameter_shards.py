"""Where DeepSpeed keeps what this rank holds of each trained parameter, in every ZeRO stage.

DeepSpeed keeps weights and optimizer state in flat buffers that depend on the
ranks, in a layout of its own for each stage. Here each is a :class:`ParameterShard`:
this rank's range of one parameter, as views into those buffers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hyperformer.errors import CheckpointError


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
    """Stage 0 in half precision: float32 copies, one per parameter or concatenated."""
    places: dict[nn.Parameter, tuple[Tensor, int, dict[str, Any]]] = {}
    for number, halves in enumerate(getattr(outer, "fp16_groups", [])):
        group, offset = base.param_groups[number], 0
        flat = hasattr(outer, "fp32_groups_flat")
        for place, half in enumerate(halves):
            places[half] = (group["params"][0 if flat else place], offset, group)
            offset += half.numel() if flat else 0
    return places


def is_partitioned(engine: Any) -> bool:
    """Whether the parameters are partitioned over the ranks (ZeRO stage 3)."""
    return engine.zero_optimization_stage() == 3
