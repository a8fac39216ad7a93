"""How the runs of a sweep stand: their own files first, then what the cluster says. Prints nothing."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hyperformer.run_folder import RunFolder
from launchers import adoption, last_known, slurm
from launchers.cluster import ClusterError
from launchers.damage import Reader, notes_on_files, with_damage
from launchers.ledger import Attempt, Ledger, last_attempt
from launchers.plan import Run
from launchers.processes import is_alive, with_argument
from launchers.submission_files import Entry, Submission

State = Literal[
    "missing", "pending", "running", "done", "failed", "stopped", "cancelled", "lost", "damaged", "unknown"
]
STATES: tuple[State, ...] = (
    "done", "running", "pending", "missing", "stopped", "cancelled", "failed", "lost", "damaged", "unknown",
)  # fmt: skip
# Nobody has to start these: they are done, or going, or nobody can tell.
LEFT_ALONE = frozenset({"done", "running", "pending", "unknown"})
GOING = frozenset({"running", "pending", "unknown"})
# A heartbeat is due every 15 seconds; a file server may show it late.
SILENT_S = 300.0
BAD = frozenset({"failed", "lost", "damaged"})


@dataclass(frozen=True)
class RunStatus:
    """One run's standing.

    Attributes:
        detail: why, in a line: the error, SLURM's word for the end, the reason for waiting.
        best_metric: best average on validation so far, percent.
        seconds_left: the run's own estimate.
        elapsed: seconds since this attempt started, or that it took.
        slurm_state: SLURM's word for the job, `reason` why it waits, `expected_start` when it might start.
        has_ended: whether the end of the newest attempt is written down.
        kind: of the failure (:mod:`launchers.failures`), and in `note` what followed from it.
        goes_on: whether the run is to start again by itself.
        damaged: the run's files that say nothing any more, and why.
        unreadable: what keeps its files from being read, such as a newer schema.
    """

    name: str
    signature: str
    folder: str
    state: State
    detail: str = ""
    attempt: int | None = None
    cluster: str | None = None
    job_id: str | None = None
    host: str | None = None
    step: int | None = None
    max_steps: int | None = None
    loss: float | None = None
    best_metric: float | None = None
    seconds_left: float | None = None
    elapsed: float | None = None
    slurm_state: str | None = None
    reason: str | None = None
    expected_start: str | None = None
    variant: str | None = None
    has_ended: bool = False
    kind: str | None = None
    note: str = ""
    goes_on: bool = False
    damaged: tuple[tuple[str, str], ...] = ()
    unreadable: str = ""

    @property
    def holds_a_job(self) -> bool:
        """Whether it is lost, but SLURM still runs its job: that must be cancelled before another starts."""
        return self.state == "lost" and self.slurm_state in slurm.RUNNING

    @property
    def is_going(self) -> bool:
        """Whether waiting for its end makes sense."""
        return self.state in GOING and not self.unreadable

    @property
    def word(self) -> str:
        """The state for people: SLURM's word for a run of SLURM, ours for others."""
        if self.cluster != "slurm":
            return self.state
        if self.state == "done":
            return "COMPLETED"
        if self.state in ("pending", "running", "failed") and self.slurm_state:
            ended = self.slurm_state in ("COMPLETED", "COMPLETING", "RUNNING") and self.state == "failed"
            return "FAILED" if ended else self.slurm_state
        return self.state.upper() if self.state in ("failed", "cancelled") else self.state

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_statuses(ledger: Ledger, runs: Iterable[Run]) -> tuple[list[RunStatus], list[str]]:
    """The standing of each run, and notes for the user (such as a cluster that does not answer).

    Calls squeue at most once and sacct at most once, however many runs.
    """
    ledger.refresh()
    notes = adoption.settle(ledger)
    newest = ledger.newest_jobs()
    lost_records = ", ".join(f"submissions/{number}.json" for number in ledger.faults)
    names: dict[str, str] = {}
    found = []
    for run in runs:
        submitted = newest.get(run.signature)
        if submitted:
            submission, index, _ = submitted
            names[submission.task_id(index) or ""] = submission.job_name
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
        jobs = slurm.query(job_id for job_id in ids if job_id)
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


def read_own_files(
    folder: Path, name: str, signature: str, submitted: tuple[Submission, int, Entry] | None = None
) -> RunStatus:
    """What the run's own files say, and for a local run whether its process lives.

    Args:
        submitted: the run's last submission to SLURM, its task there, and its entry.
    """
    reader = Reader(folder)
    status = _read_own_files(reader, RunStatus(name, signature, str(folder), "missing"), submitted)
    status = replace(status, damaged=tuple(reader.damaged.items()), unreadable=reader.unreadable)
    return status if status.cluster == "slurm" else with_damage(status)


def _read_own_files(
    reader: Reader, base: RunStatus, submitted: tuple[Submission, int, Entry] | None
) -> RunStatus:
    folder, there = reader.folder, reader.names
    if "cancelled.json" in there:
        base = replace(base, state="cancelled")
    attempt = last_attempt(folder) if "attempts" in there else None
    job: dict[str, Any] | None = None
    if submitted and (attempt is None or submitted[2].attempt > attempt.number):
        attempt = Attempt(folder / "attempts" / str(submitted[2].attempt))  # not begun yet
    started = reader.read(attempt.started) if attempt and "attempts" in there else None
    if submitted and attempt and attempt.number >= submitted[2].attempt and not attempt.job.exists():
        job = _slurm_job(submitted, started)
    elif attempt:
        job = reader.read(attempt.job)
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
    outcome = reader.read(attempt.outcome) if attempt and started else None
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
        outcome = reader.read(attempt.outcome)
    if started:
        base = _with_progress(base, reader)
    if outcome is not None:
        return _ended(base, outcome)
    if base.cluster == "local":
        return _local(base, known, attempt)
    return base if base.state == "cancelled" else replace(base, state="unknown")


def _slurm_job(submitted: tuple[Submission, int, Entry], started: dict[str, Any] | None) -> dict[str, Any]:
    """The job that a submitted run is in now."""
    submission, index, _ = submitted
    own = (started or {}).get("job_id")
    # The job that runs it knows best, unless it has handed it on to another.
    job_id = submission.moved.get(index) or own or submission.task_id(index)
    # Without any, the submit was interrupted, and SLURM cannot be asked.
    return {"cluster": "slurm", **({"job_id": job_id} if job_id else {})}


def counts(statuses: Iterable[RunStatus]) -> dict[str, int]:
    """Number of runs in each state that occurs, in the order of STATES."""
    found = Counter(status.state for status in statuses)
    return {state: found[state] for state in STATES if found[state]}


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
    return replace(status, state="lost", detail=last_line(attempt), seconds_left=None)


def _with_slurm(status: RunStatus, jobs: dict[str, slurm.SlurmJob] | None) -> RunStatus:
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
    if job is not None and job.state in slurm.PENDING:
        # Even with an end on file: SLURM has put the job back into the queue.
        return replace(
            status, state="pending", detail="" if job.reason == "None" else job.reason,
            expected_start=job.start or None, elapsed=None,
        )  # fmt: skip
    if job is not None and job.state in slurm.RUNNING and status.goes_on:
        return replace(status, state="running", detail=f"starting again: {status.note}")
    if status.state not in ("unknown", "cancelled") or status.has_ended:
        return status
    if job is not None and job.state in slurm.RUNNING:
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


def _running(status: RunStatus, job: slurm.SlurmJob) -> RunStatus:
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


def last_line(attempt: Attempt) -> str:
    """The last line of a run's standard error, for a run that died without a word."""
    try:
        with attempt.logs[1].open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 4096))
            lines = stream.read().decode(errors="replace").split("\n")
    except OSError:
        return "its process is gone"
    told = [line.strip() for line in lines if line.strip()]
    return f"its process is gone; last line of its log: {told[-1]}" if told else "its process is gone"
