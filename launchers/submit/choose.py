"""Which runs `retry` starts again, and on which nodes they should not run. Prints nothing."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from launchers.plan.runs import Run
from launchers.slurm import submitit_executor
from launchers.status import why
from launchers.status.run_status import RunStatus
from launchers.store import code_snapshot
from launchers.store.ledger import Ledger, attempts
from launchers.store.records import try_record

# With the same code and settings these end the same way.
_ALIKE = frozenset({"configuration", "user_code", "bug"})
# A node that failed under a run is not given to it again for so long.
_OF_THE_NODE = ("node_failure", "gpu_failure")
_SHUN_S = 24 * 3600.0


def to_retry(
    ledger: Ledger,
    statuses: Sequence[RunStatus],
    chosen: Collection[str],
    states: Collection[str],
    oom: bool = False,
) -> tuple[list[Run], list[RunStatus]]:
    """The runs to start again, and those that would only fail once more.

    Args:
        statuses: of the plan's runs, in order.
        chosen: signatures of the runs that the user means.
        states: in which a run may be started again.
        oom: only those that ran out of memory.
    """
    todo, alike = [], []
    code: Path | None = None
    for run, entry in zip(ledger.plan.runs, statuses, strict=True):
        if run.signature not in chosen or entry.state not in states or entry.holds_a_job:
            continue
        if oom and not why.is_out_of_memory(entry, ledger):
            continue
        if entry.cluster == "slurm" and entry.state == "failed" and entry.kind in _ALIKE:
            code = code or code_snapshot.read(submitit_executor.CODE, ledger.path / "code").folder
            submitted = ledger.newest_jobs().get(run.signature)
            if submitted and Path(submitted[0].code) == code:
                alike.append(entry)
                continue
        todo.append(run)
    return todo, alike


def without_failed_nodes(ledger: Ledger, runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """The runs, kept away from nodes that failed under them a short while ago; and notes for the user."""
    found, notes = [], []
    for run in runs:
        nodes = failed_nodes(ledger.folder(run)) if ledger.has_folder(run) else []
        if nodes:
            exclude = ",".join(filter(None, [run.resources.exclude, *nodes]))
            run = replace(run, resources=replace(run.resources, exclude=exclude))
            notes.append(f"{run.name} is kept away from {', '.join(nodes)}, which failed under it")
        found.append(run)
    return found, notes


def failed_nodes(run_folder: Path) -> list[str]:
    """Nodes that failed under a run within the last day."""
    nodes = set()
    for attempt in attempts(run_folder):
        outcome = try_record(attempt.outcome) or {}
        if outcome.get("kind") in _OF_THE_NODE and time.time() - outcome.get("ended", 0) < _SHUN_S:
            nodes.add((try_record(attempt.started) or {}).get("host"))
    return sorted(node for node in nodes if node)
