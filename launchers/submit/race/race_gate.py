"""The gate of a race on SLURM: a small job that starts the runs that move on when another run has ended."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace

from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.store import code_snapshot
from launchers.store.ledger import Ledger
from launchers.store.waiting_runs import has_launcher
from launchers.submit.gate import record
from launchers.submit.gate.gate_job import Gate
from launchers.submit.gate.record import RACE, GateRecord


def arm(
    ledger: Ledger,
    jobs: Sequence[str],
    max_parallel: int | None = None,
    ignored: Collection[str] = (),
) -> GateRecord:
    """Submit a gate that checks the race when the first of these jobs has ended; earlier gates do nothing any more.

    Args:
        jobs: of SLURM, with runs of the race; none: it checks after a while.

    Raises:
        ClusterError: SLURM does not take it.
    """
    plan, path = ledger.plan, record.gate_file(ledger.path)
    before = record.read(path)
    same = before is not None and before.state == "waits" and before.jobs == tuple(jobs)
    gate = record.write(path, GateRecord(
        "waits", RACE, "the next run of the race to end", str(plan.source), str(ledger.path.parent),
        plan.profile.cluster_argument, secrets.token_hex(8), record.file_hash(plan.text), jobs=tuple(jobs),
        waited=before.waited + 1 if before and same else 0, max_parallel=max_parallel,
        ignored=tuple(sorted(ignored)),
    ))  # fmt: skip
    code = code_snapshot.read(code_snapshot.CODE, ledger.paths.code)
    name = f"hyperformer-{plan.name}-race"
    job = Gate(name, path, gate.token, plan.profile, code, gate.jobs, gate.waited, is_any=True)
    try:
        job_id, cluster = job.submit()
    except ClusterError as error:
        raise ClusterError(
            f"SLURM did not take the job that continues the race ({error}); what was submitted before stays. "
            "`submit` again when runs have ended"
        ) from error
    return record.write(
        path, replace(gate, job_id=job_id, slurm_cluster=cluster or plan.profile.slurm_cluster)
    )


def close(ledger: Ledger) -> None:
    """Nobody can move on any more: a gate that still waits does nothing."""
    path = record.gate_file(ledger.path)
    record.write(path, GateRecord("over", RACE, "the race is over", token=secrets.token_hex(8)))


def reopen(ledger: Ledger) -> None:
    """On this machine, where no gate is needed: the launcher that starts now moves runs on, also after a cancel."""
    record.gate_file(ledger.path).unlink(missing_ok=True)


def is_cancelled(ledger: Ledger) -> bool:
    """Whether the user ended the race."""
    gate = record.read(record.gate_file(ledger.path))
    return gate is not None and gate.stage == RACE and gate.state == "cancelled"


def is_waiting(ledger: Ledger) -> bool:
    """Whether a gate, or the launcher on this machine, is to continue the race."""
    if ledger.plan.profile.is_local:
        return has_launcher(ledger.paths) and not is_cancelled(ledger)
    gate = record.read(record.gate_file(ledger.path))
    return gate is not None and gate.stage == RACE and gate.state == "waits"


def cancel(ledger: Ledger) -> None:
    """The race no longer continues by itself.

    Raises:
        ClusterError: SLURM does not answer.
    """
    if not is_waiting(ledger):
        return
    path = record.gate_file(ledger.path)
    gate = record.read(path) or GateRecord("waits", RACE)
    # Without the token of the record a gate that SLURM does not cancel any more does nothing.
    record.write(
        path, replace(gate, state="cancelled", why="cancelled by the user", token=secrets.token_hex(8))
    )
    if gate.job_id:
        job_queue.cancel([job_queue.job_key(gate.job_id, gate.slurm_cluster)])
