"""What a run's own files say of it, before anybody asks the cluster."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from launchers.status.folder_check import Reader, with_damage
from launchers.status.run_status import RunStatus
from launchers.store.attempts import Attempt, last_attempt, last_words, tail
from launchers.store.processes import is_alive, with_argument
from launchers.store.submissions import QueuedJob


def read_own_files(folder: Path, name: str, signature: str, submitted: QueuedJob | None = None) -> RunStatus:
    """What the run's own files say, and for a local run whether its process lives.

    Args:
        submitted: the last job that the run was handed to SLURM in.
    """
    reader = Reader(folder)
    status = _read_own_files(reader, RunStatus(name, signature, str(folder), "missing"), submitted)
    status = replace(status, damaged=tuple(reader.damaged.items()), unreadable=reader.unreadable)
    return status if status.cluster == "slurm" else with_damage(status)


def _read_own_files(reader: Reader, base: RunStatus, submitted: QueuedJob | None) -> RunStatus:
    folder, there = reader.folder, reader.names
    if "cancelled.json" in there:
        base = replace(base, state="cancelled")
    attempt = last_attempt(folder) if "attempts" in there else None
    job: dict[str, Any] | None = None
    if submitted and (attempt is None or submitted.run.attempt > attempt.number):
        attempt = Attempt.of(folder, submitted.run.attempt)  # not begun yet
    started = reader.read(attempt.started_file) if attempt and "attempts" in there else None
    if submitted and attempt and attempt.number >= submitted.run.attempt and not attempt.job_file.exists():
        job = _slurm_job(submitted, started)
    elif attempt:
        job = reader.read(attempt.job_file)
    if attempt and not (job or started):
        job = with_argument(attempt.folder)
    known = {**(started or {}), **(job or {})}
    # Without either, the submit was interrupted before the cluster had the job.
    if attempt and known:
        base = replace(
            base,
            attempt=attempt.number,
            cluster=known.get("cluster"),
            job_id=known.get("job_id"),
            host=(started or {}).get("host"),
        )
    outcome = reader.read(attempt.outcome_file) if attempt and started else None
    if started and isinstance(started.get("started"), int | float):
        ended = (outcome or {}).get("ended") or time.time()
        base = replace(base, elapsed=max(0.0, ended - started["started"]))
    # Once a run's end is written, its start no longer matters.
    if "result.json" in there and reader.read_result(base.signature):
        return replace(_with_progress(base, reader), state="done", seconds_left=None)
    if "config.json" in there:
        reader.read(folder / "config.json")
    if attempt is None or not known:
        return base
    if outcome is None:
        outcome = reader.read(attempt.outcome_file)
    if started:
        base = _with_progress(base, reader)
    if outcome is not None:
        return _ended(base, outcome)
    if base.cluster == "local":
        return _local(base, known, attempt)
    return base if base.state == "cancelled" else replace(base, state="unknown")


def _slurm_job(submitted: QueuedJob, started: dict[str, Any] | None) -> dict[str, Any]:
    """The job that a submitted run is in now."""
    own = (started or {}).get("job_id")
    # The job that runs it knows best, unless it has handed it on to another.
    job_id = submitted.submission.moved.get(submitted.task) or own or submitted.job_id
    # Without any, the submit was interrupted, and SLURM cannot be asked.
    return {"cluster": "slurm", **({"job_id": job_id} if job_id else {})}


def _with_progress(status: RunStatus, reader: Reader) -> RunStatus:
    state = reader.read(reader.folder / "state.json") or {}
    return replace(
        status,
        step=state.get("step"),
        max_steps=state.get("max_steps"),
        loss=state.get("loss"),
        best_metric=state.get("best_metric"),
        seconds_left=state.get("seconds_left"),
    )


def _ended(status: RunStatus, outcome: dict[str, Any]) -> RunStatus:
    status = replace(
        status,
        seconds_left=None,
        has_ended=True,
        kind=outcome.get("kind"),
        note=str(outcome.get("why", "")),
        settled="then" in outcome,
        goes_on=outcome.get("then") in ("again", "requeue"),
    )
    if status.state == "cancelled":
        return status
    how = outcome.get("status")
    if how == "failed":
        kind, message = outcome.get("error_type", "error"), str(outcome.get("message", ""))
        return replace(status, state="failed", detail=f"{kind}: {message}")
    if how == "stopped":
        return replace(status, state="stopped", detail=str(outcome.get("message", "")))
    return replace(status, state="lost", detail="it says that it is done, but result.json is not there")


def _local(status: RunStatus, record: dict[str, Any], attempt: Attempt) -> RunStatus:
    """A local run that has not told its end."""
    alive = is_alive(record)
    if alive:
        return replace(status, state="running")
    if alive is None:
        return replace(status, state="running", detail=f"says {record.get('host')}; ask there")
    if status.state == "cancelled":
        return status
    last = last_words(tail(attempt.logs[1]))
    told = f"its process is gone{f'; last line of its log: {last}' if last else ''}"
    return replace(status, state="lost", detail=told, seconds_left=None)
