"""What SLURM calls the states and reasons of jobs, and what they mean."""

from __future__ import annotations

# SLURM's reasons, decoded. A name ending in * stands for all that begin so.
_WAITS = {
    "Resources": "waits for free nodes, GPUs or memory",
    "Priority": "others with a higher priority are before it",
    "JobArrayTaskLimit": "the sweep's own max_parallel holds it back",
    "Dependency": "waits for the array before it (max_parallel)",
    "DependencyNeverSatisfied": "waits for a job that can no longer end as it should: it will never start; "
    "`cancel` it and submit again",
    "JobHeldUser": "held by its user: scontrol release",
    "JobHeldAdmin": "held by an administrator",
    "BeginTime": "was put back into the queue and may start in a moment",
    "PartitionTimeLimit": "asks for more time than the partition allows: it will never start as it is",
    "PartitionNodeLimit": "asks for more nodes than the partition allows: it will never start as it is",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition takes no jobs now",
    "ReqNodeNotAvail*": "a node that it needs is down, drained or reserved",
    "Nodes required*": "the nodes that it needs are down, drained or reserved",
    "Reservation": "waits for its reservation",
    "ReservationDeleted": "its reservation is gone: it will never start",
    "Licenses": "waits for a licence",
    "BadConstraints": "no node has what it asks for: it will never start as it is",
    "AssocMaxJobsLimit": "your account runs as many jobs as it may",
    "AssocGrp*": "your account's share is used up for now",
    "QOSMaxJobsPerUserLimit": "the QOS lets you run no more jobs at once",
    "QOS*": "a limit of the QOS holds it back",
    "Assoc*": "a limit of your account holds it back",
    "MaxMemPerLimit": "asks for more memory than it may: it will never start as it is",
    "launch failed requeued held": "a node could not start it, so it is held: scontrol release",
    "None": "SLURM has not looked at it yet",
}


_ENDS = {
    "TIMEOUT": "its time was up: give it more (`time:`), it goes on from its last checkpoint",
    "OUT_OF_MEMORY": "it took more memory than it asked for: raise mem_gb",
    "NODE_FAIL": "its node failed: submit again",
    "PREEMPTED": "a more urgent job took its place: submit again",
    "BOOT_FAIL": "its node did not start: submit again",
    "DEADLINE": "its deadline passed",
    "FAILED": "it failed",
}


def _decode(reason: str) -> str:
    for name, words in _WAITS.items():
        if reason == name or (name.endswith("*") and reason.startswith(name[:-1])):
            return words
    return "SLURM's word; `scontrol show job` tells more"


PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})


RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"})
