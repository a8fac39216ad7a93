"""The kinds of failure, and what follows each: one table. The table of docs/failures.md is made from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "preempted", "node_failure", "requeued", "time_limit", "cancelled", "out_of_gpu_memory", "out_of_memory",
    "killed", "gpu_failure", "collective", "hang", "diverged", "disk_full", "data_source", "data", "configuration",
    "set_up", "user_code", "bug", "in_use", "paused",
]  # fmt: skip

# The end of the run; start again in the same job; the job goes back into the queue.
Action = Literal["end", "again", "requeue"]

UNLIMITED, NEVER = "unlimited", "never"


@dataclass(frozen=True)
class Failure:
    """An attempt that did not end well.

    Attributes:
        message: the error in the words of whoever reported it.
        fingerprint: equal for failures that have the same traceback.
    """

    kind: Kind
    message: str
    fingerprint: str = field(default="", compare=False)


@dataclass(frozen=True)
class FailureKind:
    """One row of the table.

    Attributes:
        words: what happened, for a message.
        action: what follows while the budget lasts.
        retries: default budget: how often a run starts again for it; None: without limit. A kind
            whose action is "end" has none.
        shared: other runs with the same code and settings are likely to fail so too (`stop_after`).
        needs_new_code: with the same code it would only fail once more, so `retry` leaves it.
        of_the_node: the node is to blame; the next job avoids it.
        told_by: how it is recognised, for the documentation.
        follows: what is done, for the documentation.
    """

    name: Kind
    words: str
    action: Action
    retries: int | None = 0
    counts_for_stop_after: bool = False
    needs_new_code: bool = False
    blames_node: bool = False
    recognised_by: str = ""
    follows: str = ""

    @property
    def times(self) -> str:
        """The default budget in words."""
        if self.action == "end":
            return NEVER
        return UNLIMITED if self.retries is None else str(self.retries)


_IN_PLACE = "restarts in the same job"
_SAVED = "saved; back into the queue"
_RESUMES = "resumes from its last checkpoint"
_END = "ends"
_LEFT = "On SLURM `retry` leaves it alone while the code is the same"

_ROWS = (
    FailureKind(
        "preempted", "a more urgent job took its place", "requeue", None,
        recognised_by="SLURM's line in the job's log, or a SIGTERM that is no `scancel`", follows=_SAVED,
    ),
    FailureKind(
        "time_limit", "its time was up", "requeue", None,
        recognised_by="the run stopped itself before the limit",
        follows=f"{_SAVED}, as long as it makes steps. It ends if it had its whole time and made none: raise `time:`",
    ),
    FailureKind(
        "node_failure", "its node failed", "requeue", None, blames_node=True,
        recognised_by="SLURM starts the job again, and the node is down",
        follows=f"{_RESUMES}; `submit` and `retry` avoid the node for a day",
    ),
    FailureKind(
        "requeued", "SLURM put it back into the queue", "requeue", None,
        recognised_by="SLURM starts the job again for another reason", follows=_RESUMES,
    ),
    FailureKind(
        "out_of_gpu_memory", "it ran out of GPU memory", "again", 4,
        recognised_by="torch's error",
        follows=f"micro-batch halved, accumulation doubled: same global batch; {_IN_PLACE}. It ends when the "
        "micro-batch is one row: use `gradient_checkpointing: true`, or a larger GPU. An evaluation takes half the "
        "rows per forward, without a restart where that is possible",
    ),
    FailureKind(
        "collective", "its ranks lost each other (network, NCCL, gloo)", "again", 2,
        recognised_by="NCCL, gloo, a rendezvous that failed", follows=f"{_IN_PLACE}, at another port",
    ),
    FailureKind(
        "killed", "its process was killed without a message (often for lack of memory)", "again", 1,
        recognised_by="SIGKILL, SIGSEGV, or an exit without a message", follows=_IN_PLACE,
    ),
    FailureKind(
        "gpu_failure", "its GPU does not work", "requeue", 2, blames_node=True,
        recognised_by="ECC errors; a GPU that is gone or busy; no GPU visible",
        follows="back into the queue, away from that node",
    ),
    FailureKind(
        "hang", "nothing moved for hang_minutes", "again", 1,
        recognised_by="nothing moved (a step, a batch of evaluation, a file of a checkpoint) for `hang_minutes`, a "
        "setting: 30; or a rank waited in vain for another one",
        follows=f"all stacks are in its log; {_IN_PLACE}",
    ),
    FailureKind(
        "diverged", "its loss, gradient or weights are no longer numbers", "again", 1,
        recognised_by="the loss, a gradient or a weight is no longer a finite number; in fp16, no loss scale fits",
        follows="the newest checkpoint is renamed; restarts from the one before, if there is one",
    ),
    FailureKind(
        "disk_full", "the disk, or a quota on it, is full", "again", 1,
        recognised_by="no space, or no quota",
        follows=f"waits up to ten minutes for enough space for a checkpoint, then {_IN_PLACE}",
    ),
    FailureKind(
        "data_source", "its data set could not be reached", "again", 1,
        recognised_by="the hub or a file server cannot be reached (ESTALE, EIO)", follows=_IN_PLACE,
    ),
    FailureKind(
        "out_of_memory", "it took more memory than it asked for (mem_gb)", "again", 0,
        recognised_by="the kernel's or SLURM's line", follows=f"{_END}: raise `mem_gb`, then `retry --oom`",
    ),
    FailureKind(
        "data", "its data is not what the task needs", "end", counts_for_stop_after=True,
        recognised_by="an error of ours about the data", follows=_END,
    ),
    FailureKind(
        "set_up", "the job ended before the run began (set-up commands, python, packages)", "end",
        counts_for_stop_after=True, recognised_by="the job ended before the run began", follows=_END,
    ),
    FailureKind(
        "configuration", "its settings or files are wrong", "end", counts_for_stop_after=True, needs_new_code=True,
        recognised_by="an error of ours about settings or files",
        follows=f"{_END}. {_LEFT}. If you fixed a path or a file, use `submit`",
    ),
    FailureKind(
        "user_code", "an error in code of yours", "end", counts_for_stop_after=True, needs_new_code=True,
        recognised_by="a traceback that ends in your code",
        follows=f"{_END}. {_LEFT}",
    ),
    FailureKind(
        "bug", "an error in HyperFormer's code", "end", counts_for_stop_after=True, needs_new_code=True,
        recognised_by="a traceback that ends in ours",
        follows=f"{_END}. {_LEFT}",
    ),
    FailureKind(
        "cancelled", "it was cancelled", "end",
        recognised_by="`cancel` or `scancel`", follows=f"{_END}, until you submit it again",
    ),
    FailureKind(
        "in_use", "another process trains it", "end",
        recognised_by="the lock on the run's folder",
        follows="this start ends and changes nothing; `status` shows who trains",
    ),
    FailureKind(
        "paused", "a race paused it", "end",
        recognised_by="the run reached the step that its race.json names, and saved",
        follows=f"no failure: if its setting moves on, it {_RESUMES}",
    ),
)  # fmt: skip

KINDS: dict[str, FailureKind] = {row.name: row for row in _ROWS}


def markdown() -> Iterator[str]:
    """The table of docs/failures.md, line by line."""
    yield "| kind | how it is recognised | what follows | retries |"
    yield "| --- | --- | --- | --- |"
    for row in _ROWS:
        yield f"| `{row.name}` | {row.recognised_by} | {row.follows} | {row.times} |"


if __name__ == "__main__":
    print("\n".join(markdown()))
