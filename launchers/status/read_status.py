"""How the runs of a sweep stand: their own files first, then what the cluster says. Prints nothing."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hyperformer.run_files.run_folder import RunFolder
from launchers.plan.runs import Run
from launchers.slurm import job_queue, last_known, states
from launchers.slurm.commands import ClusterError
from launchers.status import reconcile
from launchers.status.folder_check import notes_on_files, with_damage
from launchers.status.run_files import read_own_files
from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger

# A heartbeat is due every 15 seconds; a file server may show it late.
SILENT_S = 300.0


def read_statuses(ledger: Ledger, runs: Iterable[Run]) -> tuple[list[RunStatus], list[str]]:
    """The standing of each run, and notes for the user (such as a cluster that does not answer).

    Calls squeue at most once and sacct at most once, however many runs.
    """
    ledger.refresh()
    notes = reconcile.settle(ledger)
    newest = ledger.newest_jobs()
    lost_records = ", ".join(f"submissions/{number}.json" for number in ledger.faults)
    names: dict[str, str] = {}
    found = []
    for run in runs:
        submitted = newest.get(run.signature)
        if submitted:
            names[submitted.job_id or ""] = submitted.submission.job_name
        folder, variant = ledger.folder(run), run.config.variant
        # Any run may be in it, queued or running.
        unreadable = f"{lost_records} cannot be read: see the note" if lost_records else ""
        if submitted or ledger.has_folder(run):
            status = read_own_files(folder, run.name, run.signature, submitted)
            status = replace(status, variant=variant, unreadable=status.unreadable or unreadable)
        else:
            status = RunStatus(
                run.name, run.signature, str(folder), "missing", variant=variant, unreadable=unreadable
            )
        found.append(status)
    ids = [status.job_id for status in found if status.cluster == "slurm" and status.state != "done"]
    memory = last_known.LastKnown(ledger.path)
    try:
        jobs = job_queue.query(job_id for job_id in ids if job_id)
        # The same id, but another's job: slurmctld lost its state, and counts anew.
        jobs = {key: job for key, job in jobs.items() if not job.name or names.get(key, job.name) == job.name}
        memory.keep(jobs)
    except ClusterError as error:
        before = memory.recall() or {}
        notes.append(f"{error}; states of jobs are the last ones known{memory.age()}")
        # One that it never told is not lost: nobody can tell.
        found = [_with_slurm(s, before if s.job_id in before else None) for s in found]
    else:
        found = [_with_slurm(status, jobs) for status in found]
    found = [with_damage(status) for status in found]
    return found, [*notes, *notes_on_files(ledger, found)]


def _with_slurm(status: RunStatus, jobs: dict[str, job_queue.SlurmJob] | None) -> RunStatus:
    """The standing with SLURM's word on it. Our files overrule where they tell the end."""
    if status.cluster != "slurm" or status.state == "done" or status.job_id is None:
        return status
    if jobs is None:
        return replace(status, detail=status.detail or "SLURM does not answer")
    job = jobs.get(status.job_id)
    if job is not None:
        status = replace(
            status, slurm_state=job.state, reason=job.reason, elapsed=status.elapsed or job.elapsed
        )
    if job is not None and job.state in states.PENDING:
        # Even with an end on file: SLURM has put the job back into the queue.
        return replace(
            status, state="pending", detail="" if job.reason == "None" else job.reason,
            expected_start=job.start or None, elapsed=None,
        )  # fmt: skip
    if job is not None and job.state in states.RUNNING and status.has_ended and status.state != "cancelled":
        if status.goes_on:
            return replace(status, state="running", detail=f"starting again: {status.note}")
        if not status.settled:  # the job has yet to look at it, and may start it again
            return replace(status, state="running", detail=f"its end is being looked at: {status.detail}")
    if status.state not in ("unknown", "cancelled") or status.has_ended:
        return status
    if job is not None and job.state in states.RUNNING:
        return _running(status, job)
    if status.state == "cancelled":
        return status
    status = replace(status, seconds_left=None)
    gone = "" if Path(status.folder).is_dir() else "; its folder is not there any more"
    if job is None:
        return replace(status, state="lost", detail=f"SLURM does not know job {status.job_id}{gone}")
    if job.state == "UNKNOWN":
        return replace(status, detail=f"the queue does not have job {status.job_id}, but {job.reason}")
    status = replace(status, host=status.host or job.node)
    if job.state == "CANCELLED":
        return replace(status, state="cancelled", detail="scancel")
    if job.state == "COMPLETED":
        return replace(
            status, state="lost", detail=f"SLURM says COMPLETED, but result.json is not there{gone}"
        )
    return replace(status, state="failed", detail=f"SLURM says {job.state}")


def _running(status: RunStatus, job: job_queue.SlurmJob) -> RunStatus:
    """A run that SLURM runs; lost if it gives no sign of life."""
    status = replace(status, host=status.host or job.node)
    silent = seconds_silent(Path(status.folder))
    # A heartbeat of an earlier attempt says nothing of one that has only begun.
    old = min(silent or 0.0, status.elapsed or 0.0) > SILENT_S
    if silent is not None and old and job.state == "RUNNING":
        told = f"no sign of life for {silent / 60:.0f} minutes, though SLURM says RUNNING"
        return replace(status, state="lost", detail=f"{told}: `cancel` it, then submit", seconds_left=None)
    return replace(status, state="running", detail="" if job.state == "RUNNING" else job.state)


def seconds_silent(folder: Path) -> float | None:
    """Seconds since the run's last heartbeat, by the clock of the file system; None if it never had one."""
    try:
        heartbeat = RunFolder(folder).heartbeat.stat().st_mtime
        if time.time() - heartbeat < SILENT_S / 2:
            return 0.0
        # The clocks of nodes and login node may differ: ask the file system what time it has.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".now.") as probe:
            now = os.stat(probe.name).st_mtime
    except FileNotFoundError:
        return None
    except OSError:
        now = time.time()
    return max(0.0, now - heartbeat)
