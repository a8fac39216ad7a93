"""How runs would be submitted to SLURM: read the site's limits, group runs into arrays, check them. Changes nothing."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from launchers.plan.plan import Run
from launchers.slurm import commands
from launchers.slurm.accounting import Accounting
from launchers.slurm.array_plan import ArrayPlan
from launchers.slurm.commands import ClusterError
from launchers.slurm.group_into_arrays import Limits, group_into_arrays
from launchers.slurm.site import Site, read_site
from launchers.store import code_snapshot, redaction
from launchers.store.ledger import Ledger
from launchers.submit import prefetch, preflight_slurm
from launchers.submit.estimate import Estimate, estimate
from launchers.submit.preflight import Finding
from launchers.submit.submit_arrays import SUBMIT_LIMIT, left_for_later


@dataclass(frozen=True)
class SlurmStartPlan:
    """How runs would go to SLURM, found out without changing anything.

    Attributes:
        left_out: runs for which the limits on submitted jobs have no room now.
    """

    arrays: list[ArrayPlan]
    left_out: list[Run]
    estimate: Estimate
    findings: list[Finding]
    notes: list[str]


def plan_slurm_start(
    ledger: Ledger, todo: Sequence[Run], parallel: int | None, must_answer: bool
) -> SlurmStartPlan:
    """Find out how runs go to SLURM, and what it would refuse.

    Args:
        todo: the runs to start; at least one.
        parallel: jobs at once at most; None: no cap.
        must_answer: whether SLURM has to answer; else what it allows is not checked.

    Raises:
        ClusterError: SLURM must answer, and does not.
    """
    notes = commands.notes_on_shell()
    site: Site | None = None
    with ThreadPoolExecutor() as pool:  # SLURM answers while the code is read
        code = pool.submit(code_snapshot.read, code_snapshot.CODE, ledger.paths.code)
        try:
            site = read_site(ledger.plan.profile.slurm_cluster)
        except ClusterError as error:
            if must_answer:
                raise
            notes.append(f"{error}; what SLURM allows was not checked")
    notes += code.result().notes
    profile = ledger.plan.profile
    jobs = dataclasses.replace(profile, offline=profile.offline or _all_prefetched(ledger, todo))
    limits = Limits(parallel, site.max_array_size, site.accounting) if site else Limits(parallel)
    arrays, left_out = group_into_arrays(ledger, todo, jobs, code.result(), limits)
    if left_out:
        notes.append(_why_left_out(left_out, limits.accounting))
    findings, more = preflight_slurm.find_problems(todo, site, ledger.path) if site else ([], [])
    notes += more
    findings += _in_profile(ledger, todo)
    findings += _in_scripts(arrays)
    start, objections = _ask_sbatch(arrays) if site else (None, [])
    # What was found without sbatch is said better.
    return SlurmStartPlan(arrays, left_out, estimate(arrays, start), findings or objections, notes)


def _why_left_out(runs: Sequence[Run], accounting: Accounting) -> str:
    least = (min(accounting.limits_on(run.resources), key=lambda limit: limit.left) for run in runs)
    words = " and ".join(dict.fromkeys(limit.words for limit in least))
    return left_for_later(runs, f"{words} takes no more jobs now")


def _all_prefetched(ledger: Ledger, todo: Sequence[Run]) -> bool:
    have = prefetch.prefetched(ledger.path)
    return bool(have) and set(prefetch.needs(todo)) <= have


def _in_profile(ledger: Ledger, todo: Sequence[Run]) -> Iterator[Finding]:
    profile = ledger.plan.profile
    if profile.offline:
        for name in prefetch.missing(todo, ledger.path, dict(profile.environment)):
            remedy = f"fetch it: sweep.py prefetch {ledger.plan.source}"
            yield Finding("offline", f"{name}: not on this machine, and the nodes are offline; {remedy}")
    if profile.container:
        for text in profile.container.findings((run.config for run in todo), ledger.path):
            yield Finding("container", text)


def _in_scripts(arrays: Sequence[ArrayPlan]) -> Iterator[Finding]:
    """What is wrong with the batch scripts, without asking SLURM."""
    for array in arrays:
        fault = _shell_fault(array.text) if array.resources.setup else None
        if fault:
            yield Finding("setup", f"the set-up commands are not shell: {fault} ({array.runs[0].name})")
        shown = redaction.hide(array.text)
        if shown != array.text:
            line = next(line for line in shown.splitlines() if redaction.HIDDEN.decode() in line)
            yield Finding(
                None,
                f"the sbatch file, which stays on disk, would hold a secret: {line.strip()[:100]}; put it under "
                "`environment:` of the cluster's profile as NAME: ${NAME}: that hands it over without writing it",
            )


def _shell_fault(text: str) -> str | None:
    """What bash has against a script, without running it."""
    try:
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stderr.strip().splitlines()[0].removeprefix("bash: ") if done.returncode else None


def _ask_sbatch(arrays: Sequence[ArrayPlan]) -> tuple[str | None, list[Finding]]:
    """When the first job would start, in SLURM's words, and what sbatch has against the scripts."""
    start, findings, seen = None, [], set()
    for array in arrays:
        if array.resources in seen or array.after_previous:
            continue
        seen.add(array.resources)
        when, objection = array.try_out()
        start = start or when
        # What a limit on submitted jobs leaves is left for later.
        if objection and not SUBMIT_LIMIT.search(objection):
            findings.append(Finding("sbatch", f"sbatch refuses: {objection} ({array.runs[0].name})"))
    return start, findings
