"""The end of a job: its batch script asks here what to do after the run has ended.

    python -m launchers.job.epilogue RECORD EXIT_CODE BATCH_SCRIPT

Exit codes, of ``batch_script``: RESTART_EXIT_CODE: start once more in this job; REQUEUE_EXIT_CODE: the batch script
is to requeue the job. Any other is the job's own.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from launchers.job.finish import EndedAttempt, finish_attempt
from launchers.plan.retry_policy import NextStep
from launchers.slurm import batch_script
from launchers.slurm.commands import ClusterError
from launchers.slurm.requeue_command import requeue, resubmit
from launchers.slurm.this_job import JobTask, own_id, this_task
from launchers.store.attempts import failed_nodes, last_attempt, next_attempt, this_start
from launchers.store.records import LedgerError
from launchers.store.submissions import QueuedRun

# With less time left than this, a new start goes to the end of the queue instead.
_LEAST_LEFT_S = 120.0
_THEN = {"end": "the end", "again": "starting it again here", "requeue": "back into the queue"}


def after(record: Path, code: int, script: Path) -> int:
    """Finish the attempt of every run of the job; returns the exit code for the batch script."""
    own = 1 if code in (batch_script.RESTART_EXIT_CODE, batch_script.REQUEUE_EXIT_CODE) else code
    try:
        task = this_task(record)
    except LedgerError as error:  # what it says is another job's
        print(error, flush=True)
        return own
    actions = set()
    for run in task.runs:
        step = _finish(task, run, code)
        if step.why != "done":
            print(f"{run.name}: {step.why}: {_THEN[step.action]}", flush=True)
        actions.add(step.action)
    if actions <= {"end", "again"} and "again" in actions and _time_left() > _LEAST_LEFT_S:
        return batch_script.RESTART_EXIT_CODE
    return _back_into_the_queue(task, script) if actions & {"again", "requeue"} else own


def _finish(task: JobTask, run: QueuedRun, code: int) -> NextStep:
    folder, job_id = task.sweep.run(run.folder), own_id()
    attempt = last_attempt(folder, run.attempt) or next_attempt(folder, run.attempt)
    outcome, begun_by = attempt.read_outcome(), attempt.start
    then = outcome.then if outcome else None
    if then is None and begun_by.job_id not in (None, job_id):
        return NextStep("end", f"job {begun_by.job_id} has it now")
    finished_in_pack = task.is_packed and begun_by == this_start(job_id)
    if outcome and then and (then == "end" or finished_in_pack):
        return NextStep(then, outcome.why)
    if then:
        # An earlier start's, so this one ended before the run could make its first file.
        attempt = next_attempt(folder, run.attempt)
    return finish_attempt(
        EndedAttempt(attempt, run.attempt, code, task.sweep.job_logs(job_id)[1]), task.policy
    )


def _back_into_the_queue(task: JobTask, script: Path) -> int:
    exclude = sorted({node for run in task.runs for node in failed_nodes(task.sweep.run(run.folder))})
    try:
        requeue(exclude)
        return 0
    except ClusterError as refused:
        print(f"SLURM does not requeue it ({refused}); submitting it again", flush=True)
    try:
        resubmit(task, script, exclude)
        return 0
    except ClusterError as refused:
        print(
            f"nor can it be submitted ({refused}); if the batch script cannot requeue it either, "
            "`sweep.py submit` resumes it",
            flush=True,
        )
        return batch_script.REQUEUE_EXIT_CODE


def _time_left() -> float:
    """Seconds until SLURM ends the job."""
    return float(os.environ.get("HYPERFORMER_DEADLINE", "inf")) - time.time()


if __name__ == "__main__":
    sys.exit(after(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
