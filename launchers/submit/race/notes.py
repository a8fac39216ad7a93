"""What `status` shows of a race beside the states of its runs."""

from __future__ import annotations

from dataclasses import dataclass

from launchers.slurm import job_queue, states
from launchers.slurm.commands import ClusterError
from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger
from launchers.submit.gate import record
from launchers.submit.gate.record import RACE
from launchers.submit.race import race_gate
from launchers.submit.race.standings import read_standings

_CANCELLED = "race: it was cancelled; `submit` resumes it"


@dataclass(frozen=True)
class RaceView:
    """The state of the runs of a race.

    Attributes:
        statuses: with those that move on as stopped.
        notes: for the user.
        continues: whether a gate or launcher is to start more of these runs, though none of them is active.
    """

    statuses: list[RunStatus]
    notes: list[str]
    continues: bool


def with_race(ledger: Ledger, statuses: list[RunStatus]) -> RaceView:
    """The state of these runs, with what their race says of them.

    Args:
        statuses: of all runs of the plan, in order, or of some: who moves on is not known then.
    """
    race = ledger.plan.race
    if race is None:
        return RaceView(statuses, [], False)
    standings = read_standings(ledger, statuses) if len(statuses) == len(ledger.plan.runs) else None
    going = any(entry.is_active for entry in statuses)
    note, continues = _on_this_machine(ledger) if ledger.plan.profile.is_local else _gate(ledger, going)
    notes = [*(standings.notes if standings else ()), note]
    may_start = any(entry.state in ("paused", "stopped") for entry in statuses)
    moved = standings.with_moves(statuses) if standings else statuses
    return RaceView(moved, [line for line in notes if line], continues and may_start)


def _on_this_machine(ledger: Ledger) -> tuple[str, bool]:
    return _CANCELLED if race_gate.is_cancelled(ledger) else "", race_gate.is_waiting(ledger)


def _gate(ledger: Ledger, going: bool) -> tuple[str, bool]:
    """What is to be known of the gate, in a line, '' if nothing; and whether it is to start runs."""
    gate = record.read(record.gate_file(ledger.path))
    if gate is None or gate.stage != RACE or gate.state == "over":
        return "", False
    if gate.state == "blocked":
        return f"race: it does not continue by itself: {gate.why}", False
    if gate.state == "cancelled":
        return _CANCELLED, False
    if going:
        return (
            f"race: job {gate.job_id} decides which settings move on when a run has ended"
            if gate.job_id
            else "",
            True,
        )
    key = job_queue.job_key(gate.job_id or "", gate.slurm_cluster)
    try:
        job = job_queue.query([key]).get(key) if gate.job_id else None
    except ClusterError as error:
        return f"race: whether job {gate.job_id} continues it is not known ({error})", True
    if job is not None and job.state not in states.ENDED:
        return f"race: job {gate.job_id} decides which settings move on", True
    if record.read(record.gate_file(ledger.path)) != gate:  # it has acted meanwhile
        return _gate(ledger, going)
    log = record.gate_file(ledger.path).with_name("gate.log")
    return f"race: job {gate.job_id}, which was to continue it, is gone ({log}): `submit` again", False
