"""Where the ranks of a SLURM job meet, by SLURM's variables alone. Imports no torch."""

from __future__ import annotations

import hashlib
import random
import re
import socket
from collections.abc import Mapping
from contextlib import suppress

from hyperformer.errors import ConfigError

_PORTS = range(12_000, 32_000)


def variables_from_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """torch.distributed's variables for one of several tasks that ``srun`` started; {} for any other process.

    Raises:
        ConfigError: this is one of several tasks, and SLURM does not say which one.
    """
    # The step's number, not the job's: without srun, a batch script is one process of a job of several tasks.
    size = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if size == "1":
        return {}
    try:
        return {
            "RANK": str(int(environment["SLURM_PROCID"])),
            "LOCAL_RANK": "0" if sees_one_gpu(environment) else str(int(environment["SLURM_LOCALID"])),
            "WORLD_SIZE": str(int(size)),
            "MASTER_ADDR": first_host(environment["SLURM_STEP_NODELIST"]),
            "MASTER_PORT": str(rendezvous_port(environment)),
        }
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"srun started {size} tasks, but SLURM's variables do not say which one this is ({error}): "
            "start them by torchrun, or set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
        ) from error


def sees_one_gpu(environment: Mapping[str, str]) -> bool:
    """Whether this process sees one GPU, which is number 0 for it: as each task under --gpus-per-task=1."""
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return len(visible) == 1 and visible != [""]


def first_host(nodes: str) -> str:
    """The first host of SLURM's node list.

    >>> first_host("gpu[003-004,9],login1")
    'gpu003'
    """
    host = re.match(r"((?:[^,\[\]]|\[\d[^\]]*\])+)(?:,|$)", nodes)
    if host is None:
        raise ValueError(f"the node list is {nodes!r}")
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", host[1])


def rendezvous_port(environment: Mapping[str, str]) -> int:
    """A port of the job step's own: the same on every rank, another one when SLURM starts the job again.

    It is below 32768: above, the kernel gives ports to any process.
    """
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return port_of(".".join(environment.get(name, "0") for name in names))


def port_of(text: str) -> int:
    """A port that every rank that knows the same text finds by itself."""
    return _PORTS[int(hashlib.sha256(text.encode()).hexdigest(), 16) % len(_PORTS)]


def free_port() -> int:
    """A port of this machine on which nobody listens.

    It is below 32768, too: the kernel could give a higher one to another process before it is used.
    """
    chance = random.SystemRandom()  # the run's own random numbers must not depend on this
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = chance.choice(_PORTS)
            probe.bind(("127.0.0.1", port))
            return port
