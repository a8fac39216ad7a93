"""What a run's own files say of it, and whether its process lives, before anybody asks the cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyperformer.run_files import run_lock
from hyperformer.run_files.run_folder import RunFolder
from launchers.plan.plan import Run
from launchers.status.run_facts import RunFacts
from launchers.store.attempts import Attempt, Outcome, attempts, last_attempt, last_log_line, tail
from launchers.store.done_runs.summary import DoneRun, job_of, read_summary
from launchers.store.ledger import Ledger
from launchers.store.processes import is_alive
from launchers.store.records import DamagedRecord, LedgerError, read_record
from launchers.store.submissions import QueuedJob
from launchers.store.sweep_folder import attempts_folder, cancelled_note


def read_run(ledger: Ledger, run: Run, waiting: Mapping[str, int]) -> RunFacts:
    """The facts of one run, without SLURM's.

    Args:
        waiting: of :func:`launchers.store.waiting_runs.waiting_runs`.
    """
    job = ledger.newest_jobs().get(run.signature)
    folder = ledger.folder_text(run)
    lost_records = ", ".join(f"submissions/{number}.json" for number in ledger.faults)
    # Any run may be in one that cannot be read, queued or running.
    unreadable = f"{lost_records} cannot be read: see the note" if lost_records else ""
    done = read_summary(folder, run.signature) if ledger.has_folder(run) else None
    if done and (job is None or job.run.attempt <= done.attempt):
        return _of_done_run(run, folder, done, job, unreadable)
    # Without a folder it has not begun: one look at the sweep's folder tells that of thousands of runs.
    reader = _Reader(ledger.folder(run)) if ledger.has_folder(run) else None
    known: dict[str, Any] = reader.facts(run.signature, job) if reader else _not_begun(job)
    if reader and ledger.plan.race:
        known["pause_at"] = reader.pause_at()
    queued = waiting.get(run.signature, 0)
    starts_again = queued and known.get("outcome") and known["outcome"].then == "again"
    return RunFacts(
        run.name,
        run.signature,
        folder,
        run.config.variant,
        **known,
        is_waiting=bool(starts_again) or queued > known.get("attempt", 0),
        damaged=tuple(reader.damaged.items()) if reader else (),
        unreadable=(reader.unreadable if reader else "") or unreadable,
        now=time.time(),
    )


def _not_begun(job: QueuedJob | None) -> dict[str, Any]:
    """Facts of a run without a folder: it waits in SLURM's queue, if it has a job."""
    known: dict[str, Any] = {"has_folder": False}
    return known | {"attempt": job.run.attempt, **job_of({}, _of_submission(job, {}))} if job else known


def _of_done_run(run: Run, folder: str, done: DoneRun, job: QueuedJob | None, unreadable: str) -> RunFacts:
    """The facts of a run whose summary counts."""
    where = done.job
    if job and not done.is_recorded:
        where = {**where, **_of_submission(job, where)}
    return RunFacts(
        run.name,
        run.signature,
        folder,
        run.config.variant,
        is_done=True,
        attempt=done.attempt,
        outcome=Outcome("done", ended=done.ended),
        progress=done.progress,
        unreadable=unreadable,
        now=time.time(),
        **where,
    )


def _of_submission(job: QueuedJob, started: Mapping[str, Any]) -> dict[str, Any]:
    """The job of SLURM that an attempt is in."""
    # The job that runs it knows best, unless it has passed it on to another.
    job_id = job.submission.moved.get(job.task) or started.get("job_id") or job.job_id
    return {"cluster": "slurm", "job_id": job_id, "slurm_cluster": job.submission.slurm_cluster}


class _Reader:
    """Reads one run's records, and remembers what was wrong with them.

    Attributes:
        names: what the folder holds.
        damaged: file -> why it cannot be understood.
        unreadable: why something could not be read at all; '' if all could.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = RunFolder(folder)
        self.folder = folder
        self.damaged: dict[str, str] = {}
        self.unreadable = ""
        self.exists = True
        self.names: set[str] = set()
        try:
            self.names = set(os.listdir(folder))
            if attempts_folder(folder).name in self.names:
                os.listdir(attempts_folder(folder))
        except FileNotFoundError:
            self.exists = False
        except OSError as error:
            self.names = set()
            self.unreadable = f"{error.filename} cannot be read ({error.strerror})"

    def facts(self, signature: str, job: QueuedJob | None) -> dict[str, Any]:
        """Fields of :class:`RunFacts`. `job`: the last that the run was handed to SLURM in."""
        found: dict[str, Any] = {
            "has_folder": self.exists,
            "is_cancelled": self._has(cancelled_note(self.folder)),
        }
        attempt = self._newest_attempt(job)
        outcome = self._outcome(attempt)
        if attempt and outcome and outcome.kind == "in_use" and attempt.number > 1:
            # It was refused, as another trained the run: that one's attempt is what counts.
            earlier = [each for each in attempts(self.folder) if each.number < attempt.number]
            attempt, outcome = (earlier[-1], self._outcome(earlier[-1])) if earlier else (attempt, outcome)
        started = self._read(attempt.started_file) or {} if attempt else {}
        process = self._process(attempt, started, job) if attempt else {}
        is_done = self._is_done(signature)
        # Once a run's end is written, its start no longer matters.
        if not is_done and self._has(self.paths.config):
            self._read(self.paths.config)
        if attempt and (started or process):
            found |= {"attempt": attempt.number, "outcome": outcome, **job_of(started, process)}
            if not outcome:
                found["last_sign"] = self._last_sign()
            if found["cluster"] == "local" and not outcome:
                found |= _liveness(attempt)
        if is_done or (started and found.get("attempt")):
            found["progress"] = self._read(self.paths.state) or {}
        return {**found, **self._trainer(started, outcome), "is_done": is_done}

    def pause_at(self) -> int | None:
        record = self._read(self.paths.race) if self._has(self.paths.race) else None
        return record.get("pause_at") if record else None

    def _has(self, path: Path) -> bool:
        return path.name in self.names

    def _read(self, path: Path) -> dict[str, Any] | None:
        """A record, or None if it is not there or cannot be understood."""
        try:
            return read_record(path)
        except DamagedRecord as error:
            self.damaged[str(path.relative_to(self.folder))] = error.why
        except LedgerError as error:
            self.unreadable = str(error)
        return None

    def _last_sign(self) -> float | None:
        """When the run last showed that it lives, in seconds since the epoch."""
        found = []
        for path in filter(self._has, (self.paths.heartbeat, self.paths.state)):
            with suppress(OSError):  # removed since
                found.append(path.stat().st_mtime)
        return max(found, default=None)

    def _is_done(self, signature: str) -> bool:
        """Whether result.json is there, whole, and this run's."""
        result = self._read(self.paths.result) if self._has(self.paths.result) else None
        if result is not None and result["signature"] != signature:
            self.damaged[self.paths.result.name] = f"it is of another run, {result['signature']}"
            return False
        return result is not None

    def _newest_attempt(self, job: QueuedJob | None) -> Attempt | None:
        """The newest attempt; one that waits in SLURM's queue has no folder yet."""
        begun = last_attempt(self.folder) if self._has(attempts_folder(self.folder)) else None
        if job and (begun is None or job.run.attempt > begun.number):
            return Attempt.of(self.folder, job.run.attempt)
        return begun

    def _process(self, attempt: Attempt, started: Mapping[str, Any], job: QueuedJob | None) -> dict[str, Any]:
        """The job that an attempt is in, or on one machine its process."""
        if job and attempt.number >= job.run.attempt and not attempt.job_file.exists():
            return _of_submission(job, started)
        return self._read(attempt.job_file) or ({} if started else next(iter(attempt.read_processes()), {}))

    def _outcome(self, attempt: Attempt | None) -> Outcome | None:
        record = self._read(attempt.outcome_file) if attempt else None
        return None if record is None else Outcome.of_record(record)

    def _trainer(self, started: Mapping[str, Any], outcome: Outcome | None) -> dict[str, Any]:
        """Who holds the lock of the run's trainer, whatever started it."""
        record: Mapping[str, Any] | None = None
        if run_lock.NAME in self.names:
            with suppress(OSError):  # another's file, or a file server that is away: nobody can tell
                record = run_lock.holder(self.folder)
        is_own = record is not None and all(record.get(key) == started.get(key) for key in ("host", "pid"))
        if record is None or (is_own and outcome):  # after its end it only seems alive, from another machine
            return {}
        who = f"process {record['pid']}" if record.get("pid") else "a process"
        return {"trainer": f"{who} on {record.get('host') or 'some machine'}", "trainer_is_own": is_own}


def _liveness(attempt: Attempt) -> dict[str, Any]:
    """Of a local run without an outcome: whether what trains it lives, or what is about to start that."""
    processes = attempt.read_processes()
    alive = [is_alive(record) for record in processes]
    if True in alive:
        return {"process": "alive"}
    if None in alive:
        return {"process": "elsewhere", "host": processes[alive.index(None)].get("host")}
    return {"process": "gone", "last_line": last_log_line(tail(attempt.logs[1]))}
