"""From inside a job: put it back into SLURM's queue, in whichever way the site lets it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from hyperformer.files import write_json
from launchers.slurm.commands import outside_of_any_job
from launchers.store.submissions import Submission
from launchers.store.sweep_folder import moved_note

_TIMEOUT_S = 60
# How long a controller that is being restarted is waited for.
_PATIENCE_S, _PAUSE_S = 300.0, 5.0
_AWAY = re.compile(r"Unable to contact|Connection refused|timed out|did not answer|Zero Bytes", re.I)


def own_id() -> str:
    """The id of the job that this process runs in, as SLURM's commands take it."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def requeue(job_id: str, exclude: Sequence[str] = ()) -> str | None:
    """Ask SLURM to start the job again; returns why it does not, or None if it will.

    Args:
        exclude: nodes that failed under it, which it should not get again.
    """
    done = _patiently(["scontrol", "requeue", job_id])
    if isinstance(done, str):
        return done
    told = f"{done.stdout} {done.stderr}".strip()
    # A preemption that requeues has done it already.
    if done.returncode and "pending execution" not in told.lower():
        return told
    if exclude:
        _call(["scontrol", "update", f"JobId={job_id}", f"ExcNodeList={','.join(exclude)}"])
    return None


def resubmit(
    script: Path, record: Path, submission: Submission, index: int, job_id: str, exclude: Sequence[str] = ()
) -> str | None:
    """Submit the job's own batch script again, to start when this job has ended.

    Returns:
        Why SLURM did not take it, or None if it did.
    """
    command = ["sbatch", "--parsable", f"--dependency=afterany:{job_id}"]
    if len(submission.tasks) > 1:
        command.append(f"--array={index}")
    if exclude:
        # On the command line it takes the place of the script's own.
        nodes = [*filter(None, [submission.shape.get("exclude")]), *exclude]
        command.append(f"--exclude={','.join(nodes)}")
    with outside_of_any_job():
        done = _patiently([*command, str(script)])
    if isinstance(done, str):
        return done
    if done.returncode:
        return done.stderr.strip() or "sbatch failed"
    new = done.stdout.strip().partition(";")[0]
    task = f"{new}_{index}" if len(submission.tasks) > 1 else new
    try:
        note = moved_note(record, index)
        note.parent.mkdir(exist_ok=True)
        write_json(note, {"job_id": task, "at": time.time()})
    except OSError as error:  # a job that the sweep does not know must not run
        _call(["scancel", new])
        return f"{error.filename}: {error.strerror}"
    return None


def _patiently(command: list[str]) -> subprocess.CompletedProcess[str] | str:
    """Call SLURM; while its controller does not answer, again and again for some minutes."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        done = _call(command)
        told = done if isinstance(done, str) else done.stderr
        if not _AWAY.search(told) or time.monotonic() > end:
            return done
        time.sleep(_PAUSE_S)


def _call(command: list[str]) -> subprocess.CompletedProcess[str] | str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError:
        return f"{command[0]} is not on this node"
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not answer within {_TIMEOUT_S} s"
