"""Starting and stopping runs: what to start, and how it gets to the cluster. Prints nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from hyperformer.errors import HyperformerError
from launchers import slurm
from launchers.cluster import ClusterError, submit_array
from launchers.ledger import Attempt, Ledger, last_attempt, read_record
from launchers.plan import Plan, Run
from launchers.processes import is_alive
from launchers.resources import Resources
from launchers.status import LEFT_ALONE, RunStatus


def to_start(plan: Plan, statuses: Sequence[RunStatus]) -> list[Run]:
    """The runs that are neither done nor going; `statuses` are those of the plan's runs, in order."""
    return [run for run, entry in zip(plan.runs, statuses, strict=True) if entry.state not in LEFT_ALONE]


def hand_to_slurm(ledger: Ledger, todo: Sequence[Run], parallel: int | None) -> list[tuple[str, int]]:
    """Submit one job array for each shape of resources.

    Args:
        parallel: runs of an array at once at most; None: no cap.

    Returns:
        (job id, number of runs) of each array.

    Raises:
        ClusterError: SLURM took no job of an array; those before it stay submitted.
    """
    arrays = []
    shapes: dict[Resources, list[Run]] = {}
    for run in todo:
        shapes.setdefault(run.resources, []).append(run)
    for resources, runs in shapes.items():
        starts: list[tuple[Path, Attempt]] = []
        try:
            for run in runs:
                attempt = ledger.new_attempt(run)
                starts.append((ledger.folder(run), attempt))
            ids = submit_array(ledger.submitit, ledger.plan.name, starts, resources, parallel)
        except HyperformerError:
            for _, attempt in starts:
                attempt.folder.rmdir()
            raise
        arrays.append((ids[0].partition("_")[0], len(ids)))
    return arrays


def stop(ledger: Ledger, touched: Sequence[tuple[Run, RunStatus]]) -> None:
    """Cancel runs: those that go save and end, those that wait are not started.

    Raises:
        ClusterError: SLURM refuses, or a run is on another machine.
    """
    for run, _ in touched:
        ledger.mark_cancelled(run)
    slurm.cancel([status.job_id for _, status in touched if status.cluster == "slurm" and status.job_id])
    for run, status in touched:
        if status.cluster == "local" and status.state == "running":
            _stop_local(ledger, run)


def _stop_local(ledger: Ledger, run: Run) -> None:
    attempt = last_attempt(ledger.folder(run))
    record = read_record(attempt.job) if attempt else None
    if record is None or is_alive(record) is None:
        raise ClusterError(f"{run.name} runs on {record and record.get('host')}: cancel it there")
    if is_alive(record):
        os.kill(record["pid"], signal.SIGTERM)
