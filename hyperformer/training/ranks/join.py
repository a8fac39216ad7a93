"""How a process joins the other ranks, and leaves them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from hyperformer.errors import ConfigError, HyperformerError, Interrupted, Paused
from hyperformer.run_files.watchdog import watch
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.memory.allocator import keep_freed_memory, use_expandable_segments
from hyperformer.training.ranks.distributed import Bookkeeping, DistributedContext
from hyperformer.training.ranks.launch_variables import rank_variables
from hyperformer.training.ranks.timeouts import Timeouts

# How long ranks wait for each other to connect. A rank does nothing long before that.
_CONNECT = timedelta(minutes=20)


def join(local_rank: int | None = None, config: TrainingConfig | None = None) -> DistributedContext:
    """Join the process group that the launcher's environment describes, or be the only rank.

    Args:
        local_rank: what the deepspeed launcher wrote on the command line, if it did.
        config: has the timeouts; None: the defaults.

    Raises:
        HyperformerError: GPUs were given, and torch sees none; the ranks cannot connect.
        ConfigError: it is not known which rank this is, or there is no GPU for it.
    """
    import deepspeed

    timeouts = Timeouts.of(config or TrainingConfig())
    use_expandable_segments(os.environ)
    cuda = torch.cuda.is_available()
    _check_gpus_work(cuda)
    os.environ |= rank_variables(os.environ, local_rank)
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        _check_has_gpu(local)
        torch.cuda.set_device(device)
    else:
        keep_freed_memory(os.environ)
        # A communication kernel for inference that DeepSpeed would compile now; training never calls it.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if cuda else "gloo", verbose=False, timeout=_CONNECT)
    rank, size = dist.get_rank(), dist.get_world_size()
    if size == 1:
        return DistributedContext(rank, local, size, device)
    context = DistributedContext(rank, local, size, device, _bookkeeping(timeouts))
    context.groups_made()
    if cuda:
        _check_one_gpu_each(context)
    return context


@contextmanager
def joined(local_rank: int | None, config: TrainingConfig) -> Iterator[DistributedContext]:
    """Join the other ranks for this block, and leave them at its end; arguments and errors as of :func:`join`.

    After an error the group is left to the end of the process: another rank may hang, and NCCL would wait for it.
    """
    from deepspeed import comm

    is_ours = not dist.is_initialized()
    try:
        with watch(None, config.hang_minutes, main=False):
            context = join(local_rank, config)
        yield context
    except (Interrupted, Paused):  # on every rank
        if is_ours:
            comm.destroy_process_group()
        raise
    if is_ours:
        comm.destroy_process_group()


def _bookkeeping(timeouts: Timeouts) -> Bookkeeping:
    try:
        return Bookkeeping(dist.new_group(backend="gloo", timeout=_CONNECT), timeouts)
    except RuntimeError as error:
        raise HyperformerError(
            f"the ranks cannot connect by gloo from {socket.gethostname()} ({error}). Set GLOO_SOCKET_IFNAME to the "
            "network interface that the nodes share, such as ib0 or eth0"
        ) from error


def _check_gpus_work(cuda: bool) -> None:
    given = set(os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")) - {"", "-1"}
    if given and torch.version.cuda and not cuda:
        # It would train on the CPU, for as long as a job lasts.
        raise HyperformerError(
            f"no CUDA-capable device works on {socket.gethostname()}, though CUDA_VISIBLE_DEVICES names "
            f"{','.join(sorted(given))}; unset it to train on the CPU"
        )


def _check_has_gpu(local: int) -> None:
    count = torch.cuda.device_count()
    if local >= count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        text = f" (CUDA_VISIBLE_DEVICES={visible})" if visible is not None else ""
        raise ConfigError(
            f"local rank {local} has no GPU: {socket.gethostname()} shows {count} to it{text}. Start one rank per GPU, "
            "or ask for more GPUs"
        )


def _check_one_gpu_each(context: DistributedContext) -> None:
    """NCCL would fail with an error of its own, which looks like one of the network."""
    gpus = context.gather(str(torch.cuda.get_device_properties(context.device).uuid))
    for rank, gpu in enumerate(gpus):
        if gpu in gpus[:rank]:
            raise ConfigError(
                f"rank {gpus.index(gpu)} and rank {rank} have the same GPU. Start one rank per GPU: under srun with "
                "as many GPUs as tasks on each node (--gpus-per-task=1)"
            )
