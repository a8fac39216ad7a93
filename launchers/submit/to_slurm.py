"""``submit`` and ``retry`` to SLURM, step by step: look, check, bill, ask, hand over."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hyperformer.errors import HyperformerError
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.runs import Run
from launchers.slurm import commands
from launchers.slurm.arrays import ArrayPlan, Limits, arrange
from launchers.slurm.commands import ClusterError
from launchers.slurm.site import Site, read_site
from launchers.status import reconcile
from launchers.status.read_status import read_statuses
from launchers.status.run_status import RunStatus
from launchers.store import code_snapshot, redaction
from launchers.store.ledger import Ledger
from launchers.store.lock import sweep_lock
from launchers.store.submissions import QueuedRun, Submission, changed_settings, groups, task_lines
from launchers.submit import disk_space, prefetch, preflight, preflight_slurm
from launchers.submit.choose import make_ready, to_start, without_failed_nodes
from launchers.submit.estimate import Bill, bill

LOCK_WAIT_S = 120.0


class NotConfirmed(HyperformerError):
    """The bill is above `confirm_above`, and nobody said yes."""


@dataclass
class Outcome:
    """What a submit did, or with `dry_run` would do."""

    statuses: list[RunStatus]
    todo: list[Run]
    notes: list[str] = field(default_factory=list)
    bill: Bill | None = None
    arrays: list[tuple[str, int]] = field(default_factory=list)
    left_out: list[Run] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def submit_to_slurm(
    ledger: Ledger,
    profile: ClusterProfile,
    parallel: int | None = None,
    choose: Callable[[Sequence[RunStatus]], list[Run]] | None = None,
    confirm: Callable[[Bill], bool] | None = None,
    estimate: bool = True,
) -> Outcome:
    """Hand the runs that are to start to SLURM, and return as soon as it has them.

    Args:
        choose: which runs to start, from their statuses; default: all that are not done or going.
        confirm: asked with the bill before anything is done; False ends it there.
        estimate: ask SLURM when the jobs would start.

    Raises:
        PreflightError: with every finding.
        LockError: another one is submitting this sweep.
        ClusterError: SLURM takes no jobs.
    """
    preflight.check([], ledger.path.parent, preflight_slurm.unusable_name(ledger.path))
    ledger.check_owner()
    with sweep_lock(ledger.path, wait_s=LOCK_WAIT_S, brief=True):
        found, arrays = _look(ledger, profile, parallel, choose, estimate)
        if not found.todo:
            ledger.commit()
            return found
        assert found.bill is not None
        if confirm is not None and not confirm(found.bill):
            raise NotConfirmed("nothing was submitted")
        ledger.commit(profile.cluster_argument)
        found.notes += make_ready(ledger, found.statuses, found.todo)
        found.arrays = hand_to_slurm(ledger, arrays)
    return found


def dry_run(
    ledger: Ledger,
    profile: ClusterProfile,
    parallel: int | None = None,
    choose: Callable[[Sequence[RunStatus]], list[Run]] | None = None,
) -> Outcome:
    """What :func:`submit_to_slurm` would do, with the text of each sbatch file; writes nothing."""
    found, arrays = _look(ledger, profile, parallel, choose, estimate=True, must_answer=False)
    found.texts = [array.text for array in arrays]
    return found


def _look(
    ledger: Ledger,
    profile: ClusterProfile,
    parallel: int | None,
    choose: Callable[[Sequence[RunStatus]], list[Run]] | None,
    estimate: bool,
    must_answer: bool = True,
) -> tuple[Outcome, list[ArrayPlan]]:
    """Find out what is to start and check it; changes nothing. Without anything to start there are no arrays."""
    plan = ledger.plan
    statuses, notes = read_statuses(ledger, plan.runs)
    todo = choose(statuses) if choose else to_start(plan, statuses)
    todo, shunned = without_failed_nodes(ledger, todo)
    notes += [*shunned, *commands.notes_on_shell()]
    found = Outcome(statuses, todo, notes)
    parallel = parallel or plan.max_parallel
    if not todo:
        return found, []
    site: Site | None = None
    with ThreadPoolExecutor() as pool:  # SLURM answers while disks are read
        code = pool.submit(code_snapshot.read, code_snapshot.CODE, ledger.paths.code)
        place = pool.submit(disk_space.look, ledger.path, len(todo))
        try:
            site = read_site()
        except ClusterError as error:
            if must_answer:
                raise
            notes.append(f"{error}; what SLURM allows was not checked")
    jobs = dataclasses.replace(profile, offline=profile.offline or _all_prefetched(ledger, todo))
    limits = Limits(parallel, site.max_array_size, _may_submit(site)) if site else Limits(parallel)
    arrays, found.left_out = arrange(ledger, todo, jobs, code.result(), limits)
    notes += place.result().notes
    start = _check(ledger, profile, site, todo, arrays, estimate, place.result().findings)
    found.bill = bill(arrays, start)
    return found, arrays


def _check(
    ledger: Ledger,
    profile: ClusterProfile,
    site: Site | None,
    todo: list[Run],
    arrays: Sequence[ArrayPlan],
    estimate: bool,
    more: Sequence[str],
) -> str | None:
    """All findings at once; returns when the first job would start."""
    findings = list(preflight_slurm.findings(todo, site, ledger.path)) if site else []
    findings += more
    if profile.offline:
        for name in prefetch.missing(todo, ledger.path, dict(profile.environment)):
            findings.append(
                f"{name}: not on this machine, and the nodes are offline; "
                f"fetch it: sweep.py prefetch {ledger.plan.source}"
            )
    if profile.container:
        findings += profile.container.findings((run.config for run in todo), ledger.path)
    for array in arrays:
        fault = shell_fault(array.text) if array.resources.setup else None
        if fault:
            findings.append(f"the set-up commands are not shell: {fault} ({array.runs[0].name})")
    findings += _leaks(arrays)
    start = None
    if site and estimate:
        seen = set()
        for array in arrays:
            if array.resources in seen or array.after_previous:
                continue
            seen.add(array.resources)
            when, objection = array.try_out()
            start = start or when
            # What we have found ourselves is said better.
            if objection and not findings:
                findings.append(f"sbatch refuses: {objection} ({array.runs[0].name})")
    preflight.check(todo, ledger.path.parent, findings)
    return start


def _leaks(arrays: Sequence[ArrayPlan]) -> Iterator[str]:
    """Secrets that would be written to disk, or would not reach the jobs."""
    for array in arrays:
        shown = redaction.hide(array.text)
        if shown != array.text:
            line = next(line for line in shown.splitlines() if redaction.HIDDEN.decode() in line)
            yield (
                f"the sbatch file, which stays on disk, would hold a secret: {line.strip()[:100]}; put it under "
                "`environment:` of the cluster's profile as NAME: ${NAME}: that hands it over without writing it"
            )
        export = dict(array.resources.sbatch).get("export", "ALL")
        if array.secrets and not (export or "").startswith("ALL"):
            names = ", ".join(array.secrets)
            yield f"sbatch's --export={export} keeps {names} from the jobs; write `sbatch: {{export: ALL}}`"


def shell_fault(text: str) -> str | None:
    """What bash has against a script, without running it."""
    try:
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stderr.strip().splitlines()[0].removeprefix("bash: ") if done.returncode else None


def _all_prefetched(ledger: Ledger, todo: list[Run]) -> bool:
    have = prefetch.prefetched(ledger.path)
    return bool(have) and set(prefetch.needs(todo)) <= have


def _may_submit(site: Site) -> int | None:
    """Jobs that the user may still submit; None where no limit is known."""
    if site.max_submit is None:
        return None
    queue = commands.ask("squeue", "--me", "--noheader", "--array", "--states=PD,R,S,CG,CF", "--format=%i")
    return max(0, site.max_submit - len(queue.splitlines()))


def ask(bill: Bill, profile: ClusterProfile, yes: bool) -> bool:
    """Show the bill; above the profile's `confirm_above` ask, unless `yes`."""
    print(bill)
    limit = profile.confirm_above
    if yes or limit is None or bill.gpu_hours <= limit:
        return True
    if not sys.stdin.isatty():
        raise NotConfirmed(
            f"{bill.gpu_hours:,.4g} GPU-hours are above confirm_above ({limit:g}); say -y to submit them"
        )
    return input(f"above {limit:g} GPU-hours; submit? [y/N] ").strip().lower() in ("y", "yes")


def hand_to_slurm(ledger: Ledger, arrays: Sequence[ArrayPlan]) -> list[tuple[str, int]]:
    """Submit the arrays.

    Returns:
        (job id, number of runs) of each array.

    Raises:
        ClusterError: SLURM took no job of an array; those before it stay submitted.
    """
    entries = [[_queued(ledger, run) for run in array.runs] for array in arrays]
    previous: str | None = None
    handed = []
    for array, runs in zip(arrays, entries, strict=True):
        array.code.write()
        submission = Submission(
            array.number, array.job_name, array.profile.cluster_argument, time.time(), str(array.code.folder),
            groups(runs, array.resources.pack), ranks=array.resources.ranks,
            cpus=array.resources.cpus_per_task, shape=dataclasses.asdict(array.resources),
            policy=array.profile.retry_policy.as_json(),
        )  # fmt: skip
        lines = task_lines(submission.tasks)
        ledger.record_submission(submission, lines)
        try:
            previous = array.submit(previous).job_id
        except HyperformerError:
            reconcile.settle(ledger)  # SLURM may have taken it, and its answer been lost
            raise
        ledger.record_submission(dataclasses.replace(submission, job_id=previous), lines)
        handed.append((previous, len(array.runs)))
    return handed


def _queued(ledger: Ledger, run: Run) -> QueuedRun:
    folder, number = ledger.folder(run).name, ledger.next_number(run)
    return QueuedRun(run.signature, run.name, folder, number, changed_settings(run.config))
