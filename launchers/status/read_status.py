"""Reads the state of the runs of a sweep: their own files first, then what the cluster says. Prints nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hyperformer.run_files.run_folder import RunFolder
from launchers.plan.plan import Run
from launchers.slurm import states
from launchers.status.adopt_jobs import adopt_jobs
from launchers.status.folder_check import notes_on_files
from launchers.status.read_facts import read_run
from launchers.status.run_facts import RunFacts
from launchers.status.run_status import RunStatus
from launchers.status.slurm_answers import Answer, query_jobs
from launchers.status.state_rules import status_of
from launchers.store.ledger import Ledger
from launchers.store.processes import seconds_silent
from launchers.store.waiting_runs import waiting_runs


def read_statuses(
    ledger: Ledger, runs: Iterable[Run], max_age_s: float = 0.0
) -> tuple[list[RunStatus], list[str]]:
    """The state of each run, and notes for the user (such as a cluster that does not answer).

    Calls squeue at most once and sacct at most once, however many runs.

    Args:
        max_age_s: how old an answer of SLURM may be that another process got; 0: ask it now.
    """
    ledger.refresh()
    notes = adopt_jobs(ledger)
    runs = list(runs)
    waiting = waiting_runs(ledger.paths)
    facts = [read_run(ledger, run, waiting) for run in runs]
    waits_for = [each.job_key for each in facts if not each.is_done]
    answer = query_jobs(ledger.paths, filter(None, waits_for), max_age_s)
    jobs = ledger.newest_jobs()
    found = []
    for run, each in zip(runs, facts, strict=True):
        job = jobs.get(run.signature)
        name = job.submission.job_name if job else ""
        status = status_of(_with_slurm(each, answer, name))
        if _may_have_changed(each, status):
            # It may have begun or ended while SLURM was asked.
            ledger.look_for_folder(run)
            status = status_of(_with_slurm(read_run(ledger, run, waiting), answer, name))
        found.append(status)
    return found, [*notes, *answer.notes, *notes_on_files(ledger, found)]


def read_local_status(ledger: Ledger, run: Run) -> RunStatus:
    """The state of a run of this machine; asks no cluster."""
    return status_of(read_run(ledger, run, waiting_runs(ledger.paths)))


def _may_have_changed(facts: RunFacts, status: RunStatus) -> bool:
    written = facts.outcome is not None and facts.outcome.status != "done"
    return status.state in ("lost", "failed", "unknown", "damaged") and not written


def _with_slurm(facts: RunFacts, answer: Answer, name: str) -> RunFacts:
    """The facts with what SLURM says of the run's job, whose name is `name`."""
    key = facts.job_key
    if key is None or facts.is_done:
        return facts
    job = answer.jobs.get(key)
    # The same id, but another's job: slurmctld lost its state, and counts from the start again.
    if job is not None and job.name and name and job.name != name:
        job = None
    silent_s = None
    if job is not None and job.state in states.RUNNING and facts.outcome is None:
        silent_s = seconds_silent(RunFolder(Path(facts.folder)).heartbeat)
    known = object.__new__(RunFacts)  # a sixth of `replace`, which thousands of queued runs would pay
    vars(known).update(vars(facts), slurm=job, slurm_was_asked=key in answer.asked, silent_s=silent_s)
    return known
