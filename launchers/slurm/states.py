"""SLURM's job states and reasons, and what each means for a run: two tables.

Sources: the pages job_state_codes and job_reason_codes of SLURM's documentation, and the manual pages of squeue and
sacct, of the versions 20.11 to 25.11. A state that is not in the table is unknown, and never an end.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Phase = Literal["pending", "running", "completed", "cancelled", "failed", "unknown"]


class JobState(NamedTuple):
    """A state: its short code, what it means for a run, and for an end that is not good the words for it."""

    code: str
    phase: Phase
    words: str = ""


STATES: dict[str, JobState] = {
    # Base states: a job has one of them.
    "PENDING": JobState("PD", "pending"),
    "RUNNING": JobState("R", "running"),
    "SUSPENDED": JobState("S", "running"),
    "COMPLETED": JobState("CD", "completed"),
    "CANCELLED": JobState("CA", "cancelled", "it was cancelled"),
    "FAILED": JobState("F", "failed"),
    "TIMEOUT": JobState("TO", "failed", "its time limit was reached: raise `time:`; it resumes where it was"),
    "NODE_FAIL": JobState("NF", "failed", "its node failed: submit again"),
    "PREEMPTED": JobState("PR", "failed", "a more urgent job took its place: submit again"),
    "BOOT_FAIL": JobState("BF", "failed", "its node did not boot: submit again"),
    "DEADLINE": JobState("DL", "failed", "its deadline passed: change `deadline` under `sbatch:`, and submit again"),
    "OUT_OF_MEMORY": JobState("OOM", "failed", "it used more memory than it asked for: raise mem_gb"),
    # Flags: SLURM shows them in place of the base state, or behind it after a '+'.
    "CONFIGURING": JobState("CF", "pending"),
    "POWER_UP_NODE": JobState("PU", "pending"),
    "REQUEUED": JobState("RQ", "pending"),
    "REQUEUE_FED": JobState("RF", "pending"),
    "REQUEUE_HOLD": JobState("RH", "pending"),
    "SPECIAL_EXIT": JobState("SE", "pending"),
    "RESV_DEL_HOLD": JobState("RD", "pending"),
    "EXPEDITING": JobState("EX", "pending"),
    "COMPLETING": JobState("CG", "running"),
    "RESIZING": JobState("RS", "running"),
    "SIGNALING": JobState("SI", "running"),
    "STAGE_OUT": JobState("SO", "running"),
    "STOPPED": JobState("ST", "running"),
    # A job of the same name on another cluster of the federation may run.
    "REVOKED": JobState("RV", "unknown"),
    # These say nothing of the job's place in the queue.
    "LAUNCH_FAILED": JobState("", "unknown"),
    "RECONFIG_FAIL": JobState("", "unknown"),
    "UPDATE_DB": JobState("", "unknown"),
}  # fmt: skip
_NAMES = {state.code: name for name, state in STATES.items() if state.code}


def _of_phase(*phases: Phase) -> frozenset[str]:
    return frozenset(name for name, state in STATES.items() if state.phase in phases)


PENDING, RUNNING = _of_phase("pending"), _of_phase("running")
ENDED = _of_phase("completed", "cancelled", "failed")
_SAYS_NOTHING = frozenset({"LAUNCH_FAILED", "RECONFIG_FAIL", "UPDATE_DB"})


def read_state(text: str) -> str:
    """The name in :data:`STATES` of a state as a command of SLURM writes it; one that is not there as it is written.

    >>> read_state("CANCELLED by 1000"), read_state("CA+"), read_state("RUNNING+COMPLETING"), read_state("NEW")
    ('CANCELLED', 'CANCELLED', 'COMPLETING', 'NEW')
    """
    words = [word for word in re.sub(r" by \S+", "", text).upper().replace(",", "+").split("+") if word]
    names = [_NAMES.get(word, word) for word in words]
    if any(name not in STATES for name in names):
        return text
    telling = [name for name in names if name not in _SAYS_NOTHING] or names
    # A job that waits again, or has not left its nodes, has not ended, whatever else is said of it.
    for group in (PENDING - {"PENDING"}, RUNNING - {"RUNNING"}):
        for name in telling:
            if name in group:
                return name
    return telling[0] if len(set(telling)) == 1 else text


def phase(state: str) -> Phase:
    """What a state means for a run: 'unknown' for one that is not in the table."""
    found = STATES.get(read_state(state))
    return found.phase if found else "unknown"


def end_words(state: str, reason: str = "") -> str:
    """How a job ended, and what to do about it; '' where SLURM's state and reason do not tell."""
    if reason == "JobLaunchFailure":
        return explain_reason(reason)
    found = STATES.get(read_state(state))
    return found.words if found else ""


_NEVER = "it will never start as it is"
_RELEASE = "when the cause is gone: `scontrol release {job}`"
# By SLURM's reason; a name that ends in * matches all that begin so; the first match is used.
_REASONS = {
    "None": "SLURM has not looked at it yet",
    "WaitingForScheduling": "SLURM has not looked at it yet",
    "Resources": "waits for free nodes, GPUs or memory",
    "Priority": "jobs with a higher priority are ahead of it",
    "JobArrayTaskLimit": "held back by the sweep's own max_parallel",
    "Dependency": "waits for the array before it (max_parallel)",
    "DependencyNeverSatisfied": "waits for a job that can no longer end as it should: it will never start; "
    "`cancel` it and submit again",
    "JobHeldUser": "held by its user: `scontrol release {job}`",
    "JobHeldAdmin": "held by an administrator: ask them",
    "JobHoldMaxRequeue": f"SLURM has requeued it too often, so it is held; {_RELEASE}",
    "job requeued in held state": f"SLURM has requeued it and holds it, as after a failed prolog; {_RELEASE}",
    "launch failed requeued held": f"a node could not start it, so SLURM holds it; {_RELEASE}",
    "BeginTime": "its begin time has not come; after a requeue that is a moment",
    "Cleaning": "is being requeued; its last start is still being cleaned up",
    "Prolog": "its node is being prepared (prolog)",
    "NodeDown": "a node that it needs is down",
    "FrontEndDown": "no front end node works",
    "PartitionTimeLimit": f"asks for more time than the partition allows: {_NEVER}",
    "PartitionNodeLimit": f"asks for more nodes than the partition has in service: {_NEVER}",
    "PartitionConfig": f"asks for what the partition does not allow: {_NEVER}",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition takes no jobs now",
    "ReqNodeNotAvail*": "a node that it needs is down, drained or reserved",
    "Nodes required*": "the nodes that it needs are down, drained or reserved",
    "Reservation": "waits for its reservation",
    "ReservationDeleted": "its reservation is gone: it will never start",
    "Licenses": "waits for a licence",
    "BurstBuffer*": "waits for its burst buffer",
    "BadConstraints": f"no node has what it asks for: {_NEVER}",
    "Constraints": "no node in service has what it asks for",
    "AccountNotAllowed": f"its account may not use the partition: {_NEVER}",
    "InvalidAccount": f"its account does not exist any more: {_NEVER}",
    "InvalidQOS": f"its QOS does not exist any more: {_NEVER}",
    "DeadLine": f"cannot end before its deadline: {_NEVER}",
    "FedJobLock": "waits for the clusters of the federation to agree",
    "AssocMaxJobsLimit": "your account runs as many jobs as it may",
    "AssocGrp*": "your account's share is used up for now",
    "AssocMax*Per*": f"asks for more than a job of your account may: {_NEVER}",
    "Assoc*": "a limit of your account holds it back",
    "QOSMaxJobsPerUserLimit": "the QOS lets you run no more jobs at once",
    "QOSMax*PerJob*": f"asks for more than a job of the QOS may: {_NEVER}",
    "QOSMax*PerNode*": f"asks for more than a job of the QOS may: {_NEVER}",
    "QOSMin*": f"asks for less than the QOS requires: {_NEVER}",
    "QOS*": "a limit of the QOS holds it back",
    "MaxMemPerLimit": f"asks for more memory than it may: {_NEVER}",
    "Max*PerAccount": f"asks for more than the QOS gives an account: {_NEVER}",
    "JobLaunchFailure": "the node could not start it: it does not see the sweep's folder (choose a --runs-dir that all "
    "nodes share), or cannot write there",
}  # fmt: skip


def explain_reason(reason: str, job_id: str = "JOB", cluster: str | None = None) -> str:
    """What a job waits for, or why it could not start, in plain words; `cluster` is where it is, if not here.

    >>> explain_reason("launch_failed_requeued_held", "7_1")
    'a node could not start it, so SLURM holds it; when the cause is gone: `scontrol release 7_1`'
    """
    spaced, scontrol = reason.replace("_", " "), f"scontrol --clusters={cluster}" if cluster else "scontrol"
    for name, words in _REASONS.items():
        pattern = re.escape(name).replace(r"\*", ".*")
        if re.fullmatch(pattern, reason) or re.fullmatch(pattern, spaced):
            return words.replace("{job}", job_id).replace("scontrol", scontrol)
    return f"SLURM's word; `{scontrol} show job {job_id}` tells more"
