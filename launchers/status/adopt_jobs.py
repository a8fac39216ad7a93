"""Submissions whose submit was killed before it could record the job id: found again by the job's name.

The record is written before sbatch is called, with a job name that no other
submission has. So SLURM can be asked for the job of that name: if it has one,
only the id is missing; if it has none, sbatch never took it.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress

from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.store.ledger import Ledger
from launchers.store.lock import is_free, is_mine
from launchers.store.submissions import Submission


def adopt_jobs(ledger: Ledger) -> list[str]:
    """Find the jobs of submissions without a job id, or treat them as never submitted; returns notes for the user.

    Where neither is certain (SLURM does not answer, somebody is just submitting)
    they stay as they are, and their runs are unknown.
    """
    open_ones = [submission for submission in ledger.submissions() if submission.is_unconfirmed]
    if not open_ones:
        return []
    mine = is_mine(ledger.path)
    try:
        since = min(submission.submitted for submission in open_ones)
        ids: dict[str, str] = {}
        for cluster in {submission.slurm_cluster for submission in open_ones}:
            names = [each.job_name for each in open_ones if each.slurm_cluster == cluster]
            ids |= job_queue.ids_by_name(names, since, cluster)
    except ClusterError as error:
        return [f"a submit was interrupted, and whether SLURM has its jobs cannot be asked: {error}"]
    notes = []
    for submission in open_ones:
        job_id = ids.get(submission.job_name)
        if job_id:
            _adopt(ledger, dataclasses.replace(submission, job_id=job_id))
            notes.append(f"job {job_id} is of a submit that was interrupted; it is this sweep's again")
        elif mine:
            # Should sbatch get through after all, its jobs find no runs here.
            ledger.record_submission(dataclasses.replace(submission, tasks=[]))
        elif is_free(ledger.path):
            ledger.replace_submission(dataclasses.replace(submission, tasks=[]))
    return notes


def _adopt(ledger: Ledger, submission: Submission) -> None:
    ledger.replace_submission(submission)
    with suppress(OSError):  # a user who only reads may not be allowed to write
        ledger.record_submission(submission)
