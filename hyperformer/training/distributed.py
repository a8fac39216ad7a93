"""Rank, world size and rendezvous: the one place that answers them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from hyperformer.errors import HyperformerError


@dataclass(frozen=True)
class DistributedContext:
    """This process among the processes of the run."""

    rank: int
    local_rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum of `value` over the ranks."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def maximum(self, value: torch.Tensor) -> torch.Tensor:
        """The largest `value` of the ranks, element by element."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return value

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value` (a small picklable object), in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast_from_main(self, value: Any) -> Any:
        """Rank 0's `value`, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]


def is_main_process() -> bool:
    """Whether this is rank 0, as the environment has it: known before the ranks have met."""
    return os.environ.get("RANK", "0") == "0"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(local_rank: int | None = None) -> DistributedContext:
    """Join the process group that the launcher's environment describes, or be alone.

    ``deepspeed``, torchrun and our SLURM jobs set RANK, LOCAL_RANK, WORLD_SIZE,
    MASTER_ADDR and MASTER_PORT; without them this is a run of one process.

    Args:
        local_rank: what the deepspeed launcher wrote on the command line, if it did.

    Raises:
        HyperformerError: GPUs were given, and torch sees none.
    """
    import deepspeed

    cuda = torch.cuda.is_available()
    given = set(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")) - {"", "-1"}
    if given and torch.version.cuda and not cuda:
        # It would train on the CPU, for as long as a job lasts.
        raise HyperformerError(
            f"no CUDA-capable device works on {socket.gethostname()}, though CUDA_VISIBLE_DEVICES names "
            f"{','.join(sorted(given))}; unset it to train on the CPU"
        )
    if "RANK" not in os.environ:
        os.environ |= {
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(_free_port()),
        }
    local = int(os.environ.get("LOCAL_RANK", local_rank or 0))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    else:
        # A communication kernel for inference that DeepSpeed would compile now; training never calls it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if cuda else "gloo", verbose=False)
    return DistributedContext(
        rank=dist.get_rank(), local_rank=local, size=dist.get_world_size(), device=device
    )
