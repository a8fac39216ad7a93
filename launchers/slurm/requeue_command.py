"""From inside a job: put it back into SLURM's queue, in whichever way the site allows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hyperformer.files import write_json
from launchers.slurm.commands import ClusterError, check_output, submitted_job
from launchers.slurm.this_job import JobTask, own_id
from launchers.store.sweep_folder import moved_note

# How long a controller that is being restarted is waited for.
_PATIENCE_S = 300.0


def requeue(exclude: Sequence[str] = ()) -> None:
    """Ask SLURM to start this job again.

    Args:
        exclude: nodes that failed under it, which it should not get again.

    Raises:
        ClusterError: it does not.
    """
    job_id = own_id()
    try:
        check_output("scontrol", "requeue", job_id, patience_s=_PATIENCE_S)
    except ClusterError as error:
        # A preemption that requeues has done it already.
        if "pending execution" not in str(error).lower():
            raise
    if exclude:
        with suppress(ClusterError):
            check_output("scontrol", "update", f"JobId={job_id}", f"ExcNodeList={','.join(exclude)}")


def resubmit(task: JobTask, script: Path, exclude: Sequence[str] = ()) -> None:
    """Submit this job's own batch script again, to start when this job has ended.

    Raises:
        ClusterError: SLURM does not take it, or the new job could not be recorded in the sweep.
    """
    # The time of `begin:` is past; `now+1hour` would count from now again.
    options = [f"--dependency=afterany:{own_id()}", "--begin=now"]
    if task.is_array:
        options.append(f"--array={task.index}")
    if exclude:
        # On the command line it takes the place of the script's own.
        nodes = [*filter(None, [task.submission.shape.get("exclude")]), *exclude]
        options.append(f"--exclude={','.join(nodes)}")
    answer = check_output("sbatch", "--parsable", *options, str(script), patience_s=_PATIENCE_S)
    job_id, cluster = submitted_job(answer)
    note = moved_note(task.record, task.index)
    try:
        note.parent.mkdir(exist_ok=True)
        write_json(note, {"job_id": f"{job_id}_{task.index}" if task.is_array else job_id, "at": time.time()})
    except OSError as error:  # a job that the sweep does not know must not run
        check_output("scancel", job_id, cluster=cluster)
        raise ClusterError(f"{error.filename}: {error.strerror}") from error
