"""Ranks, world size and rendezvous: the one place that answers them."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.training.ranks.rendezvous import free_port, variables_from_slurm

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """This process among the processes of the run. Every rank calls every method, in the same order.

    Attributes:
        size: number of ranks.
    """

    rank: int
    local_rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process reads and writes the run's files."""
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

    def gather(self, value: T) -> list[T]:
        """Every rank's `value` (a small picklable object), in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast_from_main(self, value: T) -> T:
        """Rank 0's `value` (a small picklable object), on every rank."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def on_main(self, function: Callable[[], T]) -> T:
        """What `function` returns on rank 0, on every rank; what it raises there, every rank raises.

        So is a file of the run read: by one rank, which tells the others.
        """
        value, error = _outcome(function) if self.is_main else (None, None)
        value, other = self.broadcast_from_main((value, error and _portable(error)))
        if other is not None:
            raise error or other
        return value  # type: ignore[return-value]

    def on_each(self, function: Callable[[], T]) -> T:
        """What `function` returns on this rank; if it raises on any rank, every rank raises.

        So no rank waits for one that has failed.
        """
        value, error = _outcome(function)
        others = [other for other in self.gather(error and _portable(error)) if other is not None]
        if others:
            raise error or others[0]
        return value  # type: ignore[return-value]

    def check_same(self, values: Mapping[str, Any]) -> None:
        """See that every rank has the same values; each rank has read them for itself.

        Raises:
            ConfigError: two ranks differ; raised on every rank.
        """
        first, *others = self.gather(dict(values))
        for rank, other in enumerate(others, 1):
            changed = [name for name in first if other.get(name) != first[name]]
            if changed:
                raise ConfigError(
                    f"rank {rank} and rank 0 of this run differ in {', '.join(changed)}. The ranks of one run need "
                    "the same settings and files on every node. To start several runs by one srun, set RANK=0 "
                    "WORLD_SIZE=1 for each"
                )


def _outcome(function: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return function(), None
    except Exception as error:
        return None, error


def _portable(error: Exception) -> Exception:
    """The error, or its words if it cannot travel between processes."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def start(local_rank: int | None = None) -> DistributedContext:
    """Join the process group that the launcher's environment describes, or be the only rank.

    ``deepspeed``, torchrun and our SLURM jobs set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
    MASTER_PORT. Without them, the tasks of a plain ``srun`` become the ranks
    (:mod:`hyperformer.training.ranks.rendezvous`); else this is a run of one process.

    Args:
        local_rank: what the deepspeed launcher wrote on the command line, if it did.

    Raises:
        HyperformerError: GPUs were given, and torch sees none.
        ConfigError: the tasks of a srun cannot be made ranks.
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
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        os.environ |= variables_from_slurm(os.environ) or {**alone, "MASTER_PORT": str(free_port())}
    local = int(os.environ.get("LOCAL_RANK", local_rank or 0))
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    else:
        # A communication kernel for inference that DeepSpeed would compile now; training never calls it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if cuda else "gloo", verbose=False)
    return DistributedContext(dist.get_rank(), local, dist.get_world_size(), device)
