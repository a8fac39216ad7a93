"""Before an attempt begins: whether it may, and how those before it ended."""

from __future__ import annotations

from pathlib import Path

from hyperformer.errors import RunInUse
from hyperformer.run_files import run_lock
from launchers.plan.failure_kinds import Failure, Kind
from launchers.plan.retry_policy import RetryPolicy, next_step
from launchers.slurm import site
from launchers.store import circuit_breaker
from launchers.store.attempts import Outcome, attempts
from launchers.store.sweep_folder import SweepFolder, cancelled_note


def why_not_to_start(folder: Path) -> Outcome | None:
    """Why a run that waited should not start any more: `folder` is its own. None if it should."""
    if cancelled_note(folder).exists():
        return not_started("cancelled before it started", "cancelled")
    reason = circuit_breaker.reason(SweepFolder.of_run(folder))
    return not_started(f"held: {reason}", "cancelled") if reason else None


def wait_for_trainer(folder: Path) -> Outcome | None:
    """Why a run should not start as another process trains it; a node that SLURM gave up may still be at it.

    Waits until a trainer on another machine is known to be gone.
    """
    if not folder.is_dir():
        return None
    try:
        with run_lock.hold(folder):
            return None
    except RunInUse as error:
        return not_started(str(error), "in_use")


def not_started(why: str, kind: Kind) -> Outcome:
    return Outcome("stopped", why, kind=kind, then="end", why=why)


def close_unfinished_attempts(folder: Path, first: int, policy: RetryPolicy) -> Outcome | None:
    """Write down the end of earlier attempts that could not do so themselves: SLURM has started the job again.

    Returns:
        Why the run must not start once more, or None if it may.
    """
    kinds: list[Kind] = []
    for attempt in attempts(folder):
        if attempt.number < first or not attempt.started_file.exists():
            continue
        if not attempt.outcome_file.exists():
            host = str(attempt.read_started().get("host", ""))
            kind: Kind = "node_failure" if site.is_down(host) else "requeued"
            decision = next_step(Failure(kind, ""), kinds, progressed=True, policy=policy)
            message = f"it was on {host}"
            attempt.write_outcome(
                Outcome("stopped", message, kind=kind, then=decision.action, why=decision.why)
            )
            if decision.action == "end":
                return not_started(decision.why, kind)
        outcome = attempt.read_outcome()
        kinds.append(outcome.kind if outcome and outcome.kind else "requeued")
    return None
