"""Before an attempt begins: whether it may, which number it has, and what became of those before it."""

from __future__ import annotations

import time
from pathlib import Path

from hyperformer.errors import ConfigError
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.run_files.watchdog import HEARTBEAT_SECONDS
from launchers.plan.failure_kinds import Failure, Kind
from launchers.plan.retry_policy import RetryPolicy, next_step
from launchers.slurm import site
from launchers.store import circuit_breaker
from launchers.store.attempts import Outcome, attempts, last_attempt
from launchers.store.sweep_folder import SweepFolder, cancelled_note


def why_not_to_start(folder: Path) -> str | None:
    """Why a run that waited should not start any more: `folder` is its own. None if it should."""
    if cancelled_note(folder).exists():
        return "cancelled before it started"
    reason = circuit_breaker.reason(SweepFolder.of_run(folder))
    return None if reason is None else f"held: {reason}"


def settle_unfinished(folder: Path, first: int, policy: RetryPolicy) -> str | None:
    """Write down the end of earlier attempts that nobody was left to tell: SLURM has started the job again.

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
            told = f"it was on {host}"
            attempt.write_outcome(Outcome("stopped", told, kind=kind, then=decision.action, why=decision.why))
            if decision.action == "end":
                return decision.why
        outcome = attempt.read_outcome()
        kinds.append(outcome.kind if outcome and outcome.kind else "requeued")
    return None


def wait_for_silence(folder: Path) -> None:
    """See that nobody else trains this run: a node that SLURM gave up may still be at it.

    Raises:
        ConfigError: somebody does.
    """
    heartbeat = RunFolder(folder).heartbeat
    last = last_attempt(folder)
    if last is None or last.outcome_file.exists() or not heartbeat.exists():
        return
    before = heartbeat.stat().st_mtime
    end = time.monotonic() + 3 * HEARTBEAT_SECONDS
    while time.time() - before < 4 * HEARTBEAT_SECONDS and time.monotonic() < end:
        time.sleep(1)
        if heartbeat.stat().st_mtime > before:
            host = last.read_started().get("host", "another node")
            raise ConfigError(
                f"{folder} is being trained on {host} by another process: end it, then submit again"
            )
