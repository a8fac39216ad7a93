"""The command line of sweeps: ``python launchers/sweep.py sweeps/X.yaml``, or ``hyperformer-sweep``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

if __package__ in (None, ""):  # started as a script: this folder's parent is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hyperformer.errors import HyperformerError, in_words
from hyperformer.settings.files import ConfigWarning
from launchers.cli import inspect_commands, tables
from launchers.cli.opening import BAD_INPUT, DONE, INTERRUPTED, exit_code, open_sweep
from launchers.cli.output import agreed, print_next, print_notes, show_report
from launchers.cli.parser import parse
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.runs import Plan, Run
from launchers.plan.selection import select
from launchers.status.read_status import read_statuses
from launchers.status.run_status import BAD, GOING, LEFT_ALONE, RunStatus
from launchers.store import redaction
from launchers.store.ledger import Ledger
from launchers.store.lock import holder, sweep_lock
from launchers.submit import preflight
from launchers.submit.cancel import stop
from launchers.submit.choose import make_ready, to_retry, to_start
from launchers.submit.estimate import Bill
from launchers.submit.local_queue import LocalQueue
from launchers.submit.to_slurm import Outcome, ask, dry_run, submit_to_slurm


def submit(arguments: argparse.Namespace) -> int:
    """Start what is missing, failed or stopped; leave what is done or going."""
    return _start(arguments, None)


def retry(arguments: argparse.Namespace) -> int:
    """Start again runs that did not end well, and no others."""
    plan, ledger = open_sweep(arguments)
    chosen = {run.signature for run in select(plan, arguments.names or ["*"])}
    states = BAD if arguments.failed or arguments.oom else {*BAD, "stopped", "cancelled"}

    def choose(statuses: Sequence[RunStatus]) -> list[Run]:
        return to_retry(ledger, statuses, chosen, states, arguments.oom)[0]

    statuses, _ = read_statuses(ledger, plan.runs)
    todo, alike = to_retry(ledger, statuses, chosen, states, arguments.oom)
    touched = {run.signature for run in todo}
    for entry in alike:
        told = (
            f"{entry.detail}; the same code and settings would end so again (`submit` starts it all the same)"
        )
        print(f"left: {entry.name} ({entry.kind}): {told}")
    for entry in statuses:
        if entry.signature in touched:
            print(f"{'would retry' if arguments.dry_run else 'retry'} {entry.name} ({entry.display_state})")
    if not touched:
        print("nothing to retry" if alike else "nothing to retry: none of these runs ended badly")
        print_next(arguments, "status")
        return DONE
    if not (arguments.dry_run or agreed(arguments, f"retry {len(touched)} runs?")):
        return DONE
    return _start(arguments, choose)


def _start(arguments: argparse.Namespace, choose: Callable[[Sequence[RunStatus]], list[Run]] | None) -> int:
    plan, ledger = open_sweep(arguments)
    profile = plan.profile
    if profile.is_local:
        return _start_here(arguments, plan, ledger, profile, choose)
    if arguments.dry_run:
        return _say_what_slurm_would_get(arguments, dry_run(ledger, profile, arguments.max_parallel, choose))

    def confirm(bill: Bill) -> bool:
        return ask(bill, profile, arguments.yes)

    outcome = submit_to_slurm(ledger, profile, arguments.max_parallel, choose, confirm)
    print_notes([*plan.notes, *outcome.notes])
    started = len(outcome.todo) - len(outcome.left_out)
    print(f"{plan.name}: {started} of {len(plan.runs)} runs to start, {_left_alone(outcome.statuses)}")
    for job_id, number in outcome.arrays:
        print(f"SLURM job {job_id}: {number} run{'s' if number > 1 else ''}")
    if outcome.left_out:
        print(
            f"{len(outcome.left_out)} more than you may submit at once are left out: submit again when some end"
        )
    print_next(arguments, "status", "-w")
    return DONE


def _start_here(
    arguments: argparse.Namespace,
    plan: Plan,
    ledger: Ledger,
    profile: ClusterProfile,
    choose: Callable[[Sequence[RunStatus]], list[Run]] | None,
) -> int:
    preflight.check(plan.runs, arguments.runs_dir)
    ledger.check_owner()
    if arguments.dry_run:
        statuses, notes = read_statuses(ledger, plan.runs)
        todo = choose(statuses) if choose else to_start(plan, statuses)
        return _say_what_would_start(arguments, ledger, statuses, notes, todo)
    with sweep_lock(ledger.path):
        statuses, notes = read_statuses(ledger, plan.runs)
        print_notes([*plan.notes, *notes])
        todo = choose(statuses) if choose else to_start(plan, statuses)
        ledger.commit(profile.cluster_argument if todo else None)
        print_notes(make_ready(ledger, statuses, todo))
        print(f"{plan.name}: {len(todo)} of {len(plan.runs)} runs to start, {_left_alone(statuses)}")
        return _work_here(arguments, ledger, profile, todo)


def cancel(arguments: argparse.Namespace) -> int:
    """Stop runs (they save first), and take waiting ones out of the queue."""
    plan, ledger = open_sweep(arguments)
    runs = select(plan, arguments.names or ["*"])
    statuses, notes = read_statuses(ledger, runs)
    queue = holder(ledger.path)
    touched = [
        (run, entry)
        for run, entry in zip(runs, statuses, strict=True)
        if entry.state in GOING or entry.holds_a_job or (queue and entry.state not in ("done", "cancelled"))
    ]
    for run, entry in touched:
        print(f"{'would cancel' if arguments.dry_run else 'cancel'} {run.name} ({entry.state})")
    print_notes(notes)
    if not touched:
        print("nothing to cancel: none of these runs is going or waiting")
    elif not arguments.dry_run and agreed(arguments, f"cancel {len(touched)} runs?"):
        stop(ledger, touched)
    print_next(arguments, "status")
    return DONE


def _left_alone(statuses: Sequence[RunStatus]) -> str:
    found = tables.counts([entry for entry in statuses if entry.state in LEFT_ALONE])
    return ", ".join(f"{number} {state}" for state, number in found.items()) or "none done or going"


def _work_here(
    arguments: argparse.Namespace, ledger: Ledger, profile: ClusterProfile, todo: list[Run]
) -> int:
    """Run in the foreground, show progress, end with the table."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with tables.Progress(tables.console(), ledger.plan.name) as progress:
        parallel = arguments.max_parallel or ledger.plan.max_parallel
        queue = LocalQueue(ledger, todo, ledger.plan.runs, progress, parallel, profile.retry_policy)
        try:
            queue.work()
        except KeyboardInterrupt:
            print("\nstopped; to go on from where the runs saved:")
            print_next(arguments, "submit")
            return INTERRUPTED
    statuses, _ = read_statuses(ledger, ledger.plan.runs)
    show_report(ledger, statuses)
    failed = [entry.name for entry in statuses if entry.state in BAD]
    print_next(arguments, *(("logs", failed[0]) if failed else ("status",)))
    return exit_code(statuses)


def _say_what_would_start(
    arguments: argparse.Namespace,
    ledger: Ledger,
    statuses: list[RunStatus],
    notes: list[str],
    todo: list[Run],
) -> int:
    marks = {run.signature for run in todo}
    for entry in statuses:
        verb = "would start on this machine" if entry.signature in marks else "would leave"
        print(f"{verb}: {entry.name} ({entry.state})")
    print(f"{len(todo)} of {len(statuses)} runs to start in {ledger.path}; nothing was done")
    print_notes([*ledger.plan.notes, *notes])
    print_next(arguments, "submit")
    return DONE


def _say_what_slurm_would_get(arguments: argparse.Namespace, outcome: Outcome) -> int:
    for number, text in enumerate(outcome.texts, 1):
        print(f"--- sbatch file {number} of {len(outcome.texts)}\n{text}")
    print("---")
    print_notes(outcome.notes)
    print(f"{len(outcome.todo)} of {len(outcome.statuses)} runs to start; nothing was done")
    if outcome.bill:
        print(outcome.bill)
    print_next(arguments, "submit")
    return DONE


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _warn(message: Warning | str, category: type[Warning], *place: object) -> None:
    print_notes([str(message)])


def _print_no_more() -> None:
    """Python would try once more at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "submit": submit,
    "retry": retry,
    "cancel": cancel,
    "plan": inspect_commands.plan,
    "status": inspect_commands.status,
    "logs": inspect_commands.logs,
    "why": inspect_commands.why,
    "report": inspect_commands.report,
    "prefetch": inspect_commands.prefetch,
    "clusters": inspect_commands.clusters,
}


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parse(words)
    with warnings.catch_warnings():
        warnings.simplefilter("once", ConfigWarning)
        warnings.showwarning = _warn  # type: ignore[assignment]
        try:
            code = _COMMANDS[arguments.command](arguments)
            sys.stdout.flush()
            return code
        except HyperformerError as error:
            print(f"error: {redaction.hide(str(error))}", file=sys.stderr)
            return BAD_INPUT
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:  # the reader (head, less) has seen enough
            _print_no_more()
            return DONE
        except OSError as error:
            print(f"error: {in_words(error)}", file=sys.stderr)
            _print_no_more()
            return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
