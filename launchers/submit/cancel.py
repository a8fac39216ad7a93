"""Cancel runs: those that run save and end, those that wait do not start."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyperformer.run_files import run_lock
from launchers.plan.plan import Run
from launchers.slurm import job_queue, states
from launchers.slurm.commands import ClusterError
from launchers.status.run_status import ACTIVE, RunStatus
from launchers.store.attempts import Attempt, last_attempt
from launchers.store.ledger import Ledger
from launchers.store.processes import is_alive
from launchers.store.submissions import QueuedRun


def to_cancel(runs: Sequence[Run], statuses: Sequence[RunStatus]) -> list[tuple[Run, RunStatus]]:
    """Those of the runs that go or wait; `statuses` are theirs, in order."""
    both = zip(runs, statuses, strict=True)
    return [(run, status) for run, status in both if status.state in ACTIVE or status.holds_a_job]


def cancel(ledger: Ledger, chosen: Sequence[tuple[Run, RunStatus]]) -> None:
    """Cancel runs. What is refused does not take effect; all else is cancelled.

    Args:
        chosen: of :func:`to_cancel`.

    Raises:
        ClusterError: with every run that could not be cancelled, and why.
    """
    # SLURM first: a mark on a run that it refuses to cancel would end the run all the same.
    refused = job_queue.cancel(_whole_jobs(ledger, chosen))
    kept = []
    for run, status in chosen:
        key = job_queue.job_key(status.job_id or "", status.slurm_cluster)
        why = refused.get(key) or _cancel_one(ledger, run, status)
        if why:
            kept.append(f"- {run.name}: {why}")
    if kept:
        raise ClusterError(f"{len(kept)} of {len(chosen)} runs were not cancelled:\n" + "\n".join(kept))


def _cancel_one(ledger: Ledger, run: Run, status: RunStatus) -> str | None:
    """Mark a run as cancelled, and end its process on this machine; returns why that is not possible."""
    # What SLURM does not run ends by a signal.
    process = None
    if status.state == "running" and status.slurm_state not in states.RUNNING:
        process = _process(ledger.folder(run))
        if process and is_alive(process) is None:
            return f"it runs on {process.get('host')}: cancel it there"
    try:
        ledger.mark_cancelled(run)
    except OSError as error:
        return f"{error.filename}: {error.strerror}; ask its owner"
    if process is None:
        return None
    try:
        os.kill(process["pid"], signal.SIGTERM)
    except ProcessLookupError:  # it has just ended
        pass
    except PermissionError:
        ledger.forget_cancelled([run])
        return f"process {process['pid']} is another user's: ask them"
    return None


def _process(folder: Path) -> dict[str, Any] | None:
    """The process that trains a run, whatever started it; of those that may live the first of this machine."""
    attempt = last_attempt(folder)
    found = attempt.read_processes() if attempt else []
    with suppress(OSError):
        trainer = run_lock.holder(folder)
        found += [trainer] if trainer else []
    known = [(is_alive(process), process) for process in found]
    living = [process for alive, process in known if alive]
    return next(iter([*living, *(process for alive, process in known if alive is None)]), None)


def _whole_jobs(ledger: Ledger, chosen: Sequence[tuple[Run, RunStatus]]) -> list[str]:
    """Keys of the jobs to cancel. One whose other packed runs continue is left; it sees which are cancelled."""
    signatures = {run.signature for run, _ in chosen}
    newest = ledger.newest_jobs()
    found: dict[str, bool] = {}
    for run, status in chosen:
        if status.cluster != "slurm" or not status.job_id:
            continue
        job = newest.get(run.signature)
        others = [each for each in job.runs if each.signature not in signatures] if job else []
        alone = all(_has_ended(ledger, each) for each in others)
        key = job_queue.job_key(status.job_id, status.slurm_cluster)
        found[key] = found.get(key, True) and alone
    return [key for key, alone in found.items() if alone]


def _has_ended(ledger: Ledger, run: QueuedRun) -> bool:
    return Attempt.of(ledger.paths.run(run.folder), run.attempt).outcome_file.exists()
