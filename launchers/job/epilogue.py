"""The last word of a job: its batch script asks here what to do after the run has ended.

    python -m launchers.job.epilogue RECORD EXIT_CODE BATCH_SCRIPT

Exit codes: ``sbatch.AGAIN``: start once more, in this allocation; ``sbatch.REQUEUE``: see whether the
batch script can requeue the job. Any other is the job's own.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from launchers.job.finish import settle
from launchers.plan.retry_policy import NextStep, RetryPolicy
from launchers.slurm import batch_script
from launchers.slurm.commands import ClusterError
from launchers.slurm.requeue import requeue, resubmit
from launchers.slurm.this_job import JobTask, own_id
from launchers.store import submissions
from launchers.store.attempts import failed_nodes, last_attempt, next_attempt, this_start
from launchers.store.records import LedgerError
from launchers.store.submissions import QueuedRun, Submission
from launchers.store.sweep_folder import SweepFolder

# With less time left than this, a new start goes to the end of the queue instead.
_LEAST_LEFT_S = 120.0


def after(record: Path, code: int, script: Path) -> int:
    """Settle every run of the job; returns the exit code for the batch script."""
    own = 1 if code in (batch_script.AGAIN, batch_script.REQUEUE) else code
    job_id = own_id()
    try:
        submission = submissions.read_for_job(record, job_id.partition("_")[0])
    except LedgerError as error:  # what it says is another job's
        print(error, flush=True)
        return own
    sweep = SweepFolder.of_record(record)
    index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    actions = set()
    for entry in submission.tasks[index]:
        decision = _settle(sweep, entry, submission, index, job_id, code)
        if decision.why != "done":
            _say(entry, decision)
        actions.add(decision.action)
    if actions <= {"end", "again"} and "again" in actions and _time_left() > _LEAST_LEFT_S:
        return batch_script.AGAIN
    if actions & {"again", "requeue"}:
        nodes = {node for entry in submission.tasks[index] for node in failed_nodes(sweep.run(entry.folder))}
        return _back_into_the_queue(JobTask(record, submission, index), script, sorted(nodes))
    return own


def _settle(
    sweep: SweepFolder, entry: QueuedRun, submission: Submission, index: int, job_id: str, code: int
) -> NextStep:
    folder = sweep.run(entry.folder)
    attempt = last_attempt(folder, entry.attempt) or next_attempt(folder, entry.attempt)
    outcome, begun_by = attempt.read_outcome(), attempt.start
    then = outcome.then if outcome else None
    if then is None and begun_by.job_id not in (None, job_id):
        return NextStep("end", f"job {begun_by.job_id} has it now")
    packed = len(submission.tasks[index]) > 1
    if outcome and (then == "end" or (then and packed and begun_by == this_start(job_id))):
        return NextStep(then, outcome.why)
    if then:
        # An earlier start's, so this one ended before the run could make its first file.
        attempt = next_attempt(folder, entry.attempt)
    job_log = sweep.job_logs(job_id)[1]
    policy = RetryPolicy.from_json(submission.policy)
    return settle(folder, attempt, policy, since=entry.attempt, exit_code=code, job_log=job_log)


def _back_into_the_queue(task: JobTask, script: Path, exclude: list[str]) -> int:
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
        return batch_script.REQUEUE


def _time_left() -> float:
    """Seconds until SLURM ends the job."""
    return float(os.environ.get("HYPERFORMER_DEADLINE", "inf")) - time.time()


def _say(entry: QueuedRun, decision: NextStep) -> None:
    then = {"end": "the end", "again": "starting it again here", "requeue": "back into the queue"}
    print(f"{entry.name}: {decision.why}: {then[decision.action]}", flush=True)


if __name__ == "__main__":
    sys.exit(after(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
