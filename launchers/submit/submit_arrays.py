"""Arrays to SLURM, one after the other; as much of them as its limits on submitted jobs allow."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hyperformer.errors import HyperformerError
from launchers.plan.plan import Run
from launchers.slurm.commands import ClusterError
from launchers.slurm.group_into_arrays import ArrayPlan
from launchers.status.adopt_jobs import adopt_jobs
from launchers.store.ledger import Ledger
from launchers.store.submissions import QueuedRun, Submission, task_lines

# SLURM's names for them: AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit, QOSGrpSubmitJobsLimit, ...
SUBMIT_LIMIT = re.compile(r"\w*(?:Max|Grp)SubmitJobs?\w*Limit")


@dataclass(frozen=True)
class SubmittedArray:
    """A job array that SLURM has taken, and the number of runs in it."""

    job_id: str
    runs: int


@dataclass
class SubmitProgress:
    """What SLURM has taken.

    Attributes:
        left_out: runs that a limit on submitted jobs leaves for later; `limit`: SLURM's name for it.
    """

    arrays: list[SubmittedArray] = field(default_factory=list)
    left_out: list[Run] = field(default_factory=list)
    limit: str = ""
    notes: list[str] = field(default_factory=list)


class PartlySubmitted(ClusterError):
    """SLURM took some arrays, and refused one."""

    def __init__(self, error: HyperformerError, taken: Sequence[SubmittedArray], runs: int) -> None:
        number = sum(array.runs for array in taken)
        jobs = ", ".join(array.job_id for array in taken)
        super().__init__(
            f"{error}; {number} of {runs} runs were submitted before that (SLURM job {jobs}) and stay; "
            "submit again to start the rest"
        )
        self.taken = list(taken)


def left_for_later(runs: Sequence[Run], why: str) -> str:
    """A note on runs that a later submit has to start."""
    are_left = "1 run is left" if len(runs) == 1 else f"{len(runs)} runs are left"
    return f"{are_left} for a later submit: {why}; submit again when some have ended"


def submit_arrays(ledger: Ledger, arrays: Sequence[ArrayPlan]) -> SubmitProgress:
    """Submit the arrays.

    Raises:
        ClusterError: SLURM took no job.
        PartlySubmitted: it took some arrays, and no job of the next one.
    """
    runs = [run for array in arrays for run in array.runs]
    queued = {
        run.signature: QueuedRun.of(run, ledger.folder(run).name, ledger.next_number(run)) for run in runs
    }
    progress = SubmitProgress()
    for array in arrays:
        try:
            _submit_what_fits(ledger, array, queued, progress)
        except ClusterError as error:
            if not progress.arrays:
                raise
            raise PartlySubmitted(error, progress.arrays, len(runs)) from error
    return progress


def _submit_what_fits(
    ledger: Ledger, array: ArrayPlan, queued: Mapping[str, QueuedRun], progress: SubmitProgress
) -> None:
    """Submit an array. Where a limit refuses it, half of it, and so on: the limit may be known to SLURM alone."""
    tasks, size = array.tasks, len(array.tasks)
    while tasks and size:
        number = ledger.next_submission()
        # The rest of it comes after what was taken, so that together they keep to the array's throttle.
        chained = array.throttle is not None and len(tasks) < len(array.tasks)
        piece = dataclasses.replace(
            array, number=number, job_name=ledger.job_name(number), tasks=tasks[:size],
            after_previous=array.after_previous or chained,
        )  # fmt: skip
        try:
            progress.arrays.append(_submit(ledger, piece, queued, progress))
        except ClusterError as error:
            limit = SUBMIT_LIMIT.search(str(error))
            if limit is None:
                raise
            progress.limit, size = limit[0], size // 2
        else:
            tasks = tasks[size:]
            size = min(size, len(tasks))
    progress.left_out += [run for task in tasks for run in task]


def _submit(
    ledger: Ledger, array: ArrayPlan, queued: Mapping[str, QueuedRun], progress: SubmitProgress
) -> SubmittedArray:
    array.code.write()
    tasks = [[queued[run.signature] for run in task] for task in array.tasks]
    submission = Submission(
        array.number, array.job_name, array.profile.cluster_argument, time.time(), str(array.code.folder),
        tasks, ranks=array.resources.ranks,
        cpus=array.resources.cpus_per_task, shape=dataclasses.asdict(array.resources),
        policy=array.profile.retry_policy.as_json(), slurm_cluster=array.profile.slurm_cluster,
    )  # fmt: skip
    lines = task_lines(submission.tasks)
    ledger.record_submission(submission, lines)
    try:
        job = array.submit(progress.arrays[-1].job_id if progress.arrays else None)
    except ClusterError as error:
        adopt_jobs(ledger)
        (found,) = (each.job_id for each in ledger.submissions() if each.number == array.number)
        if found is None:
            raise
        progress.notes.append(f"{error}; but SLURM has taken job {found}")
        return SubmittedArray(found, len(array.runs))
    # A site's own sbatch may choose the cluster.
    cluster = job.cluster or submission.slurm_cluster
    submitted = dataclasses.replace(submission, job_id=job.job_id, slurm_cluster=cluster)
    ledger.record_submission(submitted, lines)
    return SubmittedArray(job.job_id, len(array.runs))
