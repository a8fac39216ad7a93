"""Which runs `retry` starts again, and on which nodes they should not run. Prints nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from launchers.job import classify
from launchers.plan.failure_kinds import KINDS
from launchers.plan.runs import Plan, Run
from launchers.status.run_status import LEFT_ALONE, RunStatus
from launchers.status.why import last_words
from launchers.store import circuit_breaker, code_snapshot
from launchers.store.attempts import failed_nodes
from launchers.store.ledger import Ledger

_NEEDS_NEW_CODE = frozenset(name for name, kind in KINDS.items() if kind.needs_new_code)


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
        if oom and not is_out_of_memory(entry, ledger):
            continue
        if entry.cluster == "slurm" and entry.state == "failed" and entry.kind in _NEEDS_NEW_CODE:
            code = code or code_snapshot.read(code_snapshot.CODE, ledger.paths.code).folder
            queued = ledger.newest_jobs().get(run.signature)
            if queued and Path(queued.submission.code) == code:
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


def is_out_of_memory(status: RunStatus, ledger: Ledger) -> bool:
    """Whether it ended for want of memory, of the GPU or the machine."""
    kind = status.kind
    if kind is None:  # nobody settled it: its job was gone too soon, or did not get so far
        told = f"{status.slurm_state} {status.detail} {last_words(status, ledger)}"
        failure = classify.classify(classify.Evidence(log=told))
        kind = failure.kind if failure else None
    return kind in ("out_of_gpu_memory", "out_of_memory")


def to_start(plan: Plan, statuses: Sequence[RunStatus]) -> list[Run]:
    """The runs that are neither done nor going; `statuses` are those of the plan's runs, in order."""
    return [
        run
        for run, entry in zip(plan.runs, statuses, strict=True)
        if entry.state not in LEFT_ALONE and not entry.holds_a_job
    ]


def make_ready(ledger: Ledger, statuses: Sequence[RunStatus], todo: Sequence[Run]) -> list[str]:
    """See that nothing of an earlier attempt stands in the way of the runs; returns notes for the user."""
    damaged = {status.signature: status.damaged for status in statuses}
    ledger.forget_cancelled(todo)
    reason = circuit_breaker.reason(ledger.paths)
    circuit_breaker.release(ledger.paths, [ledger.folder(run) for run in todo])
    notes = [f"the sweep was held ({reason}); now it goes on"] if reason else []
    return notes + ledger.rename_damaged((run, name) for run in todo for name, _ in damaged[run.signature])
