"""What the gate of a race does when its turn has come."""

from __future__ import annotations

from launchers.api import QuietCallbacks, StartOptions, Sweep
from launchers.stages.advance import check_unchanged
from launchers.submit.gate.record import GateRecord
from launchers.submit.start_rule import MOVED_ON


def continue_race(gate: GateRecord) -> str:
    """Start the runs that move on; another gate follows until the race is over. Returns what was done.

    Raises:
        HyperformerError: nothing can start, and why.
    """
    sweep = Sweep.load(gate.target, gate.runs_dir, gate.cluster)
    check_unchanged(gate, sweep.plan.text)
    options = StartOptions(gate.max_parallel, frozenset(gate.ignored))
    result = sweep.start(MOVED_ON, options, QuietCallbacks(yes=True))
    return f"moved on: {', '.join(result.started) or 'no run'}"
