"""Which runs start: a rule, which is a plain value, and one pure function that applies it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launchers.job import classify_failure
from launchers.plan.failure_kinds import KINDS
from launchers.plan.plan import Plan, Run
from launchers.plan.select_runs import select_runs
from launchers.status.run_status import ACTIVE_OR_DONE, BAD, STATES, RunStatus
from launchers.status.why import last_log_line
from launchers.store import code_snapshot
from launchers.store.attempts import failed_nodes
from launchers.store.ledger import Ledger

_NEEDS_NEW_CODE = frozenset(name for name, kind in KINDS.items() if kind.needs_new_code)
_OUT_OF_MEMORY = frozenset({"out_of_gpu_memory", "out_of_memory"})


@dataclass(frozen=True)
class StartRule:
    """Which runs start.

    Attributes:
        states: runs in these states may start.
        names: names, globs and key=value of the runs that are meant; none: all.
        out_of_memory: only runs that ran out of memory.
        skip_unfixed: leave runs that would fail in the same way again: same code, same settings.
        kind: only runs whose last attempt ended so (:mod:`launchers.plan.failure_kinds`).
    """

    states: frozenset[str]
    names: tuple[str, ...] = ()
    out_of_memory: bool = False
    skip_unfixed: bool = False
    kind: str | None = None


SUBMIT = StartRule(frozenset(STATES) - ACTIVE_OR_DONE - {"paused"})
# Runs that a race has paused and that move on: other runs need a command of the user.
MOVED_ON = StartRule(frozenset({"stopped"}), kind="paused")


def retry_rule(names: Iterable[str] = (), failed: bool = False, out_of_memory: bool = False) -> StartRule:
    """What `retry` starts: runs that ended badly, and unless `failed` those that were stopped or cancelled."""
    stopped: frozenset[str] = frozenset() if failed or out_of_memory else frozenset({"stopped", "cancelled"})
    return StartRule(BAD | stopped, tuple(names), out_of_memory, skip_unfixed=True)


@dataclass(frozen=True)
class RuleFacts:
    """What a rule has to know beyond the statuses. Signatures of runs."""

    out_of_memory: frozenset[str] = frozenset()
    unfixed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class StartChoice:
    """What a rule says of a sweep: the runs to start, and the statuses of those left as not fixed."""

    start: tuple[Run, ...]
    unfixed: tuple[RunStatus, ...] = ()


def choose(rule: StartRule, plan: Plan, statuses: Sequence[RunStatus], facts: RuleFacts) -> StartChoice:
    """Apply a rule. Pure: asks nobody, reads nothing.

    Args:
        statuses: of the plan's runs, in order.

    Raises:
        HyperformerError: a name of the rule matches no run.
    """
    candidates = _candidates(rule, plan, statuses)
    if rule.out_of_memory:
        candidates = [pair for pair in candidates if pair[0].signature in facts.out_of_memory]
    if not rule.skip_unfixed:
        return StartChoice(tuple(run for run, _ in candidates))
    return StartChoice(
        tuple(run for run, _ in candidates if run.signature not in facts.unfixed),
        tuple(status for run, status in candidates if run.signature in facts.unfixed),
    )


def gather_rule_facts(rule: StartRule, ledger: Ledger, statuses: Sequence[RunStatus]) -> RuleFacts:
    """Read what the rule has to know, and no more."""
    failed = [status for _, status in _candidates(rule, ledger.plan, statuses)]
    return RuleFacts(
        frozenset(s.signature for s in failed if rule.out_of_memory and _ran_out_of_memory(s, ledger)),
        frozenset(_unfixed(failed, ledger)) if rule.skip_unfixed else frozenset(),
    )


def _candidates(rule: StartRule, plan: Plan, statuses: Sequence[RunStatus]) -> list[tuple[Run, RunStatus]]:
    meant = {run.signature for run in select_runs(plan, rule.names)} if rule.names else None
    return [
        (run, status)
        for run, status in zip(plan.runs, statuses, strict=True)
        if (meant is None or run.signature in meant)
        and status.state in rule.states
        and rule.kind in (None, status.kind)
        and not status.holds_a_job
    ]


def _unfixed(failed: Sequence[RunStatus], ledger: Ledger) -> list[str]:
    """Those that failed on SLURM for a reason that does not go away, with the code as it is now."""
    lasting = [
        s for s in failed if s.cluster == "slurm" and s.state == "failed" and s.kind in _NEEDS_NEW_CODE
    ]
    if not lasting:
        return []
    code = code_snapshot.read(code_snapshot.CODE, ledger.paths.code).folder
    newest = ledger.newest_jobs()
    jobs = [newest.get(status.signature) for status in lasting]
    return [
        status.signature
        for status, job in zip(lasting, jobs, strict=True)
        if job and Path(job.submission.code) == code
    ]


def _ran_out_of_memory(status: RunStatus, ledger: Ledger) -> bool:
    """Whether the run ended for want of memory, of the GPU or the machine."""
    kind = status.kind
    if kind is None:  # its end was never classified: its job was gone too soon, or did not get so far
        log = f"{status.slurm_state} {status.detail} {last_log_line(status, ledger)}"
        failure = classify_failure.classify(classify_failure.Evidence(log=log))
        kind = failure.kind if failure else None
    return kind in _OUT_OF_MEMORY


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
