"""Starting runs, step by step and the same way for every back end: read the state, check, confirm, submit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from hyperformer.errors import HyperformerError
from launchers.plan.plan import Run
from launchers.status.read_status import read_statuses
from launchers.status.run_status import RunStatus
from launchers.store import circuit_breaker
from launchers.store.ledger import Ledger
from launchers.store.lock import sweep_lock
from launchers.submit import preflight, preflight_slurm, slurm_start_plan
from launchers.submit.estimate import Estimate
from launchers.submit.local_queue import LocalQueue, ProgressCallback
from launchers.submit.preflight import Finding
from launchers.submit.race import race_gate
from launchers.submit.race.standings import Standings, forget_race, read_standings
from launchers.submit.slurm_start_plan import SlurmStartPlan
from launchers.submit.start_rule import (
    MOVED_ON,
    StartChoice,
    StartRule,
    choose,
    gather_rule_facts,
    without_failed_nodes,
)
from launchers.submit.submit_arrays import SubmitProgress, SubmittedArray, left_for_later, submit_arrays

LOCK_WAIT_S = 120.0


class NotConfirmed(HyperformerError):
    """The cost estimate is above `confirm_above`, and nobody said yes."""


@dataclass(frozen=True)
class StartOptions:
    """How runs start.

    Attributes:
        max_parallel: runs at once at most; None: the sweep file's, else the profile's.
        ignored: names of preflight findings to ignore.
    """

    max_parallel: int | None = None
    ignored: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        most = self.max_parallel
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise HyperformerError(f"max_parallel must be a whole number of at least 1, not {most!r}")


@dataclass(frozen=True)
class StartPlan:
    """What is to start, found out without changing anything.

    Attributes:
        statuses: of all runs of the plan, in order.
        todo: the runs to start.
        unfixed: runs that the rule leaves, as they would fail in the same way again.
        slurm: how they go to SLURM; None on this machine, or where none is to start.
        standings: of the race; None: there is none.
    """

    statuses: list[RunStatus]
    todo: list[Run]
    unfixed: tuple[RunStatus, ...]
    notes: list[str]
    findings: list[Finding]
    slurm: SlurmStartPlan | None = None
    standings: Standings | None = None

    @property
    def texts(self) -> list[str]:
        """The sbatch file of each array."""
        return [array.text for array in self.slurm.arrays] if self.slurm else []

    @property
    def estimate(self) -> Estimate | None:
        return self.slurm.estimate if self.slurm else None

    @property
    def left_out(self) -> list[Run]:
        """Runs for which the site's limit on submitted jobs has no room now."""
        return self.slurm.left_out if self.slurm else []


@dataclass(frozen=True)
class SubmitResult:
    """What a submit did.

    Attributes:
        arrays: what SLURM has taken; none on this machine.
        left_out: names of the runs that a later submit has to start.
    """

    start: StartPlan
    arrays: list[SubmittedArray] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def started(self) -> list[str]:
        """Names of the runs that were started."""
        return [run.name for run in self.start.todo if run.name not in self.left_out]

    @property
    def job_ids(self) -> list[str]:
        return [array.job_id for array in self.arrays]


class StartCallbacks(ProgressCallback, Protocol):
    """Called while runs start: to show what happens, and to ask."""

    def announce(self, start: StartPlan) -> None:
        """Runs are about to start."""

    def confirm(self, question: str) -> bool:
        """Whether to continue in spite of the cost; may raise NotConfirmed with a better reason."""

    def note(self, text: str) -> None:
        """Something that the user may want to know."""


def choose_runs(
    ledger: Ledger, rule: StartRule, statuses: list[RunStatus]
) -> tuple[StartChoice, list[RunStatus], Standings | None]:
    """Which runs a rule starts now; in a race also those that move on, which are stopped in the statuses returned.

    Args:
        statuses: of all runs of the plan, in order.

    Raises:
        HyperformerError: a name of the rule matches no run.
    """
    choice = choose(rule, ledger.plan, statuses, gather_rule_facts(rule, ledger, statuses))
    standings = read_standings(ledger, statuses, {run.signature for run in choice.start})
    if standings and standings.moving:
        statuses = standings.with_moves(statuses)
        choice = choose(rule, ledger.plan, statuses, gather_rule_facts(rule, ledger, statuses))
    return choice, statuses, standings


def plan_start(ledger: Ledger, rule: StartRule, options: StartOptions, must_answer: bool = True) -> StartPlan:
    """Find out what would start, and what speaks against it; changes nothing.

    Args:
        must_answer: whether SLURM has to answer; else what it allows is not checked.

    Raises:
        HyperformerError: a name of the rule matches no run.
        ClusterError: SLURM must answer, and does not.
    """
    plan = ledger.plan
    statuses, notes = read_statuses(ledger, plan.runs)
    choice, statuses, standings = choose_runs(ledger, rule, statuses)
    parallel, chosen = options.max_parallel or plan.max_parallel, choice.start
    if rule == MOVED_ON and parallel:  # arrays keep to the limit each by itself
        chosen = chosen[: max(0, parallel - sum(entry.is_active for entry in statuses))]
    todo, shunned = without_failed_nodes(ledger, chosen)
    findings, more = preflight.find_problems(todo, ledger.path)
    if not (plan.profile.container or plan.profile.python):
        findings += preflight.missing_packages(todo)
    notes = [*plan.notes, *notes, *(standings.notes if standings else ()), *shunned, *more]
    slurm = None
    if todo and not plan.profile.is_local:
        slurm = slurm_start_plan.plan_slurm_start(ledger, todo, parallel, must_answer)
        findings += slurm.findings
        notes += slurm.notes
    return StartPlan(statuses, todo, choice.unfixed, notes, findings, slurm, standings)


def dry_run(ledger: Ledger, rule: StartRule, options: StartOptions) -> StartPlan:
    """What :func:`start` would do; writes nothing.

    Raises:
        PreflightError: with every finding that is not ignored.
    """
    _check_folder(ledger)
    found = plan_start(ledger, rule, options, must_answer=False)
    found.notes.extend(preflight.refuse_unless_ignored(found.findings, options.ignored))
    return found


def start(ledger: Ledger, rule: StartRule, options: StartOptions, callbacks: StartCallbacks) -> SubmitResult:
    """Start runs: on SLURM, and return as soon as it has them; on this machine, and return when they have ended.

    Raises:
        PreflightError: with every finding that is not ignored; nothing was started.
        LockError: another one is submitting this sweep.
        NotConfirmed: the cost estimate was not confirmed; nothing was started.
        ClusterError: SLURM takes no jobs, or only some (PartlySubmitted).
        KeyboardInterrupt: on this machine; the runs have saved and ended.
    """
    profile = ledger.plan.profile
    _check_folder(ledger)
    with _locked(ledger):
        found = plan_start(ledger, rule, options)
        found.notes.extend(preflight.refuse_unless_ignored(found.findings, options.ignored))
        callbacks.announce(found)
        question = found.estimate.above(profile.confirm_above) if found.estimate else None
        if question and not callbacks.confirm(question):
            raise NotConfirmed("nothing was submitted")
        ledger.commit(profile.cluster_argument if found.todo else None)
        for note in _clear_earlier_attempts(ledger, found):
            callbacks.note(note)
        if not profile.is_local:
            result = _submit_to_slurm(ledger, found, callbacks)
            if found.standings:
                _continue_race(ledger, result, options)
            return result
        if found.standings:
            race_gate.reopen(ledger)
        parallel = options.max_parallel or ledger.plan.max_parallel
        LocalQueue(ledger, found.todo, callbacks, parallel).run_all()
        return SubmitResult(found)


def _submit_to_slurm(ledger: Ledger, found: StartPlan, callbacks: StartCallbacks) -> SubmitResult:
    progress = submit_arrays(ledger, found.slurm.arrays) if found.slurm else SubmitProgress()
    for note in progress.notes:
        callbacks.note(note)
    if progress.left_out:
        callbacks.note(left_for_later(progress.left_out, f"SLURM takes no more jobs now ({progress.limit})"))
    left_out = [run.name for run in (*found.left_out, *progress.left_out)]
    return SubmitResult(found, progress.arrays, left_out)


def _continue_race(ledger: Ledger, result: SubmitResult, options: StartOptions) -> None:
    """Submit a gate that checks the race when a run of it has ended; where none can end any more, it is over."""
    left_out, newest = set(result.left_out), ledger.newest_jobs()
    submitted = [run.signature for run in result.start.todo if run.name not in left_out]
    going = [entry for entry in result.start.statuses if entry.is_active]
    jobs = [entry.job_id for entry in going if entry.cluster == "slurm"]
    jobs += [newest[one].job_id for one in submitted if one in newest]
    moving = result.start.standings.moving if result.start.standings else frozenset()
    if going or submitted or left_out or moving:
        race_gate.arm(ledger, list(filter(None, jobs)), options.max_parallel, options.ignored)
    else:
        race_gate.close(ledger)


def _check_folder(ledger: Ledger) -> None:
    """Before anything is written there."""
    preflight.check_runs_dir(ledger.path.parent)
    if not ledger.plan.profile.is_local:
        preflight.refuse_unless_ignored(preflight_slurm.unusable_name(ledger.path))
    ledger.check_owner()


@contextmanager
def _locked(ledger: Ledger) -> Iterator[None]:
    """The sweep's lock. What was made for it alone is removed again where nothing was started."""
    is_new = [folder for folder in (ledger.path, ledger.path.parent) if not folder.exists()]
    is_brief = not ledger.plan.profile.is_local
    try:
        with sweep_lock(ledger.path, wait_s=LOCK_WAIT_S if is_brief else 0.0, brief=is_brief):
            yield
    finally:
        for folder in is_new:
            with suppress(OSError):  # it is no longer empty
                folder.rmdir()


def _clear_earlier_attempts(ledger: Ledger, found: StartPlan) -> Iterator[str]:
    """Remove or rename what earlier attempts left that would keep the runs from starting; yields notes for the user."""
    if not found.todo:
        return
    ledger.forget_cancelled(found.todo)
    reason = circuit_breaker.reason(ledger.paths)
    circuit_breaker.release(ledger.paths, [ledger.folder(run) for run in found.todo])
    if reason:
        yield f"the sweep was held ({reason}); now its runs may start again"
    damaged = {status.signature: status.damaged for status in found.statuses}
    yield from ledger.rename_damaged((run, name) for run in found.todo for name, _ in damaged[run.signature])
    if found.standings:
        found.standings.write(ledger, found.todo)
    else:
        forget_race(ledger, found.todo)
