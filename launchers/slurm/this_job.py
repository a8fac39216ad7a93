"""Inside a job: which task of which submission it is, and what SLURM is about to do with it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from launchers.plan.failure_kinds import Kind
from launchers.plan.retry_policy import RetryPolicy
from launchers.slurm.states import PENDING, read_state
from launchers.store import submissions
from launchers.store.submissions import QueuedRun, Submission
from launchers.store.sweep_folder import SweepFolder


def own_id() -> str:
    """The id of the job that this process runs in, as SLURM's commands take it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


@dataclass(frozen=True)
class JobTask:
    """A task of a submitted array, and the runs in it.

    Attributes:
        record: the submission's file.
        index: of the task.
    """

    record: Path
    submission: Submission
    index: int

    @property
    def sweep(self) -> SweepFolder:
        return SweepFolder.of_record(self.record)

    @property
    def runs(self) -> list[QueuedRun]:
        return self.submission.tasks[self.index]

    @property
    def policy(self) -> RetryPolicy:
        return RetryPolicy.from_json(self.submission.policy)

    @property
    def is_packed(self) -> bool:
        return self.submission.shape.get("pack", 1) > 1

    @property
    def is_array(self) -> bool:
        return len(self.submission.tasks) > 1


# What a state of the job tells while one of its processes still runs.
_ENDING: dict[str, Kind] = {
    "CANCELLED": "cancelled",
    "COMPLETING": "cancelled",
    "TIMEOUT": "time_limit",
    "NODE_FAIL": "node_failure",
    "PREEMPTED": "preempted",
    **dict.fromkeys(PENDING - {"CONFIGURING", "POWER_UP_NODE"}, "requeued"),
}


def ending() -> Kind | None:
    """Why SLURM is ending this job, as the batch script saw it when the run had ended; None: it is not."""
    job_state = dict(re.findall(r"\b(JobState|Restarts)=(\w+)", os.environ.get("HYPERFORMER_JOB_STATE", "")))
    restarts = int(job_state.get("Restarts", "0")) > int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    return "requeued" if restarts else _ENDING.get(read_state(job_state.get("JobState", "")))


def this_task(record: Path) -> JobTask:
    """The task that this job is.

    Raises:
        LedgerError: the record is not this job's (any more).
    """
    submission = submissions.read_for_job(record, own_id().partition("_")[0])
    return JobTask(record, submission, int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")))
