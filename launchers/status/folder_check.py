"""What is missing from a sweep's folder or cannot be read there, in notes for the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger

_REMEDY = "; cancel them and submit again"


def notes_on_files(ledger: Ledger, statuses: Sequence[RunStatus]) -> list[str]:
    """What is wrong with the sweep's folder and what to do about it, a line each."""
    notes = [
        f"{error}; before that, `scancel --name={ledger.job_name(number)}` ends the jobs that it listed"
        for number, error in ledger.faults.items()
    ]
    if ledger.paths.sweep_file.exists() and not ledger.paths.plan.exists():
        notes.append(
            "plan.json is gone, and with it the list of earlier runs; the next submit writes a new one"
        )
    if any(ledger.paths.submitit.glob("*_submission.sh")) and not ledger.paths.submissions.is_dir():
        notes.append(
            "submissions/ is gone, and with it which runs are queued; jobs that are still queued end at their start: "
            "scancel them (squeue --me shows their ids)"
        )
    jobs = ledger.newest_jobs()
    waiting = [
        jobs[one.signature].submission for one in statuses if one.state == "pending" and one.signature in jobs
    ]
    for code in {submission.code for submission in waiting}:
        if not Path(code).is_dir():
            count = sum(submission.code == code for submission in waiting)
            notes.append(f"{count} queued runs will fail: their copy of the code, {code}, is gone{_REMEDY}")
    if waiting and not ledger.paths.submitit.is_dir():
        notes.append(f"{len(waiting)} queued runs will fail: {ledger.paths.submitit} is gone{_REMEDY}")
    return notes
