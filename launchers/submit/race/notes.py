"""What there is to tell of a race beside the states of its runs."""

from __future__ import annotations

from collections.abc import Sequence

from launchers.slurm import job_queue, states
from launchers.slurm.commands import ClusterError
from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger
from launchers.submit.gate import record
from launchers.submit.gate.record import RACE
from launchers.submit.race.standings import read_standings


def with_race(ledger: Ledger, statuses: list[RunStatus]) -> tuple[list[RunStatus], list[str]]:
    """The statuses, with runs that move on in a race as stopped; and notes for the user.

    Args:
        statuses: of all runs of the plan, in order.
    """
    standings = read_standings(ledger, statuses)
    if standings is None:
        return statuses, []
    gate = "" if ledger.plan.profile.is_local else _gate_note(ledger, statuses)
    return standings.with_moves(statuses), [*standings.notes, *([gate] if gate else [])]


def _gate_note(ledger: Ledger, statuses: Sequence[RunStatus]) -> str:
    """What is to be known of the gate, in a line; '': there is none, or nothing is wrong with it."""
    gate = record.read(record.gate_file(ledger.path))
    if gate is None or gate.stage != RACE or gate.state == "over":
        return ""
    if gate.state == "blocked":
        return f"race: it does not go on by itself: {gate.why}"
    if gate.state == "cancelled":
        return "race: it was cancelled; `submit` goes on with it"
    if any(entry.is_active for entry in statuses):
        return f"race: job {gate.job_id} looks who moves on when a run has ended" if gate.job_id else ""
    key = job_queue.job_key(gate.job_id or "", gate.slurm_cluster)
    try:
        job = job_queue.query([key]).get(key) if gate.job_id else None
    except ClusterError as error:
        return f"race: whether job {gate.job_id} goes on with it is not known ({error})"
    if job is not None and job.state not in states.ENDED:
        return f"race: job {gate.job_id} looks who moves on"
    log = record.gate_file(ledger.path).with_name("gate.log")
    return f"race: job {gate.job_id}, which was to go on with it, is gone ({log}): `submit` again"
