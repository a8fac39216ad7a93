"""Cancel runs: those that run save and end, those that wait are not started."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from launchers.plan.runs import Run
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.status.run_status import GOING, RunStatus
from launchers.store.attempts import Attempt, last_attempt
from launchers.store.ledger import Ledger
from launchers.store.lock import holder
from launchers.store.processes import is_alive
from launchers.store.records import try_record
from launchers.store.submissions import QueuedRun


def to_cancel(
    ledger: Ledger, runs: Sequence[Run], statuses: Sequence[RunStatus]
) -> list[tuple[Run, RunStatus]]:
    """Those of the runs that go or wait, also in a queue on this machine; `statuses` are theirs, in order."""
    is_queued = holder(ledger.path) is not None
    return [
        (run, status)
        for run, status in zip(runs, statuses, strict=True)
        if status.state in GOING
        or status.holds_a_job
        or (is_queued and status.state not in ("done", "cancelled"))
    ]


def cancel(ledger: Ledger, chosen: Sequence[tuple[Run, RunStatus]]) -> None:
    """Cancel runs.

    Args:
        chosen: of :func:`to_cancel`.

    Raises:
        ClusterError: SLURM refuses, or a run is on another machine.
    """
    for run, _ in chosen:
        ledger.mark_cancelled(run)
    job_queue.cancel(_whole_jobs(ledger, chosen))
    for run, status in chosen:
        if status.cluster == "local" and status.state == "running":
            _stop_local(ledger, run)


def _whole_jobs(ledger: Ledger, chosen: Sequence[tuple[Run, RunStatus]]) -> list[str]:
    """Jobs to cancel. One whose other packed runs go on is left; it sees which of its runs are cancelled."""
    signatures = {run.signature for run, _ in chosen}
    newest = ledger.newest_jobs()
    found: dict[str, bool] = {}
    for run, status in chosen:
        if status.cluster != "slurm" or not status.job_id:
            continue
        job = newest.get(run.signature)
        others = [each for each in job.runs if each.signature not in signatures] if job else []
        alone = all(_has_ended(ledger, each) for each in others)
        found[status.job_id] = found.get(status.job_id, True) and alone
    return [job_id for job_id, alone in found.items() if alone]


def _has_ended(ledger: Ledger, run: QueuedRun) -> bool:
    return Attempt.of(ledger.paths.run(run.folder), run.attempt).outcome_file.exists()


def _stop_local(ledger: Ledger, run: Run) -> None:
    attempt = last_attempt(ledger.folder(run))
    record = (try_record(attempt.job_file) or attempt.read_started()) if attempt else None
    if record is None or is_alive(record) is None:
        raise ClusterError(f"{run.name} runs on {record and record.get('host')}: cancel it there")
    if is_alive(record):
        os.kill(record["pid"], signal.SIGTERM)
