"""The kinds of failure, and what each asks for: one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "preempted", "node_failure", "requeued", "time_limit", "cancelled", "out_of_gpu_memory", "out_of_memory",
    "killed", "gpu_failure", "collective", "hang", "diverged", "disk_full", "data_source", "data", "configuration",
    "set_up", "user_code", "bug",
]  # fmt: skip


WORDS: dict[Kind, str] = {
    "preempted": "a more urgent job took its place",
    "node_failure": "its node failed",
    "requeued": "SLURM put it back into the queue",
    "time_limit": "its time was up",
    "cancelled": "it was cancelled",
    "out_of_gpu_memory": "it ran out of GPU memory",
    "out_of_memory": "it took more memory than it asked for (mem_gb)",
    "killed": "its process was killed without a word (often for want of memory)",
    "gpu_failure": "its GPU does not work",
    "collective": "its ranks lost each other (network, NCCL, gloo)",
    "hang": "nothing moved for hang_minutes",
    "diverged": "its loss is no longer a number",
    "disk_full": "the disk, or a quota on it, is full",
    "data_source": "its data set could not be reached",
    "data": "its data is not what the task needs",
    "configuration": "its settings or files are wrong",
    "set_up": "the job ended before the run began (set-up commands, python, packages)",
    "user_code": "an error in code of yours",
    "bug": "an error in HyperFormer's code",
}


# Kinds that other runs with the same code and settings are likely to share.
ALIKE: tuple[Kind, ...] = ("data", "configuration", "set_up", "user_code", "bug")


@dataclass(frozen=True)
class Failure:
    """An attempt that did not end well.

    Attributes:
        message: the error in the words of whoever told it.
        mark: equal for failures that have the same traceback.
    """

    kind: Kind
    message: str
    mark: str = field(default="", compare=False)


# Starting these again as they are would end the same way, or against the user's will.
NEVER: tuple[Kind, ...] = ("cancelled", "data", "configuration", "set_up", "user_code", "bug")


# The job itself is over, or should make room: back into the queue. The others start again where they are.
_NEED_A_NEW_JOB: tuple[Kind, ...] = ("preempted", "node_failure", "requeued", "time_limit", "gpu_failure")


_RETRIES: dict[Kind, int | None] = {
    "preempted": None,
    "node_failure": None,
    "requeued": None,
    "time_limit": None,
    "out_of_gpu_memory": 4,
    "out_of_memory": 0,
    "killed": 1,
    "gpu_failure": 2,
    "collective": 2,
    "hang": 1,
    "diverged": 1,
    "disk_full": 1,
    "data_source": 1,
}
