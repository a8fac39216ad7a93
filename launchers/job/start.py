"""Before an attempt begins: whether it may, which number it has, and what became of those before it."""

from __future__ import annotations

import time
from pathlib import Path

from hyperformer.errors import ConfigError
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.run_files.watchdog import HEARTBEAT_SECONDS
from launchers.plan.failure_kinds import Failure, Kind
from launchers.plan.retry_policy import Policy, decide
from launchers.slurm import site
from launchers.store import circuit_breaker
from launchers.store.attempts import attempts, last_attempt
from launchers.store.records import try_record


def why_not_to_start(folder: Path) -> str | None:
    """Why a run that waited should not start any more: `folder` is its own. None if it should."""
    if (folder / "cancelled.json").exists():
        return "cancelled before it started"
    reason = circuit_breaker.reason(folder.parent)
    return None if reason is None else f"held: {reason}"


def settle_unfinished(folder: Path, first: int, policy: Policy) -> str | None:
    """Write down the end of earlier attempts that nobody was left to tell: SLURM has started the job again.

    Returns:
        Why the run must not start once more, or None if it may.
    """
    kinds: list[Kind] = []
    for attempt in attempts(folder):
        if attempt.number < first or not attempt.started.exists():
            continue
        if not attempt.outcome.exists():
            host = str((try_record(attempt.started) or {}).get("host", ""))
            kind: Kind = "node_failure" if site.is_down(host) else "requeued"
            decision = decide(Failure(kind, ""), kinds, progressed=True, policy=policy)
            attempt.write_outcome(
                "stopped", message=f"it was on {host}", kind=kind, then=decision.action, why=decision.why
            )
            if decision.action == "end":
                return decision.why
        kinds.append((try_record(attempt.outcome) or {}).get("kind", "requeued"))
    return None


def wait_for_silence(folder: Path) -> None:
    """See that nobody else trains this run: a node that SLURM gave up may still be at it.

    Raises:
        ConfigError: somebody does.
    """
    heartbeat = RunFolder(folder).heartbeat
    last = last_attempt(folder)
    if last is None or last.outcome.exists() or not heartbeat.exists():
        return
    before = heartbeat.stat().st_mtime
    end = time.monotonic() + 3 * HEARTBEAT_SECONDS
    while time.time() - before < 4 * HEARTBEAT_SECONDS and time.monotonic() < end:
        time.sleep(1)
        if heartbeat.stat().st_mtime > before:
            host = (try_record(last.started) or {}).get("host", "another node")
            raise ConfigError(
                f"{folder} is being trained on {host} by another process: end it, then submit again"
            )
