"""The command line of sweeps: ``python launchers/sweep.py sweeps/X.yaml``, or ``hyperformer-sweep``."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

if __package__ in (None, ""):  # started as a script: this folder's parent is where the packages are
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from hyperformer.config_files import ConfigWarning
from hyperformer.errors import HyperformerError, nearest
from launchers import logs, preflight, screen, slurm
from launchers.dialog import print_next, print_notes, show_report, watch
from launchers.ledger import Ledger
from launchers.local_queue import LocalQueue
from launchers.lock import holder, sweep_lock
from launchers.plan import Plan, Run, load_plan
from launchers.status import BAD, GOING, LEFT_ALONE, RunStatus, read_statuses
from launchers.submission import hand_to_slurm, stop, to_start

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_COMMANDS = ("submit", "plan", "status", "logs", "cancel", "report")


def submit(arguments: argparse.Namespace) -> int:
    """Start what is missing, failed or stopped; leave what is done or going."""
    plan, ledger = _open(arguments)
    preflight.check(plan.runs, arguments.runs_dir)
    ledger.check_owner()
    cluster = arguments.cluster or ("slurm" if slurm.here() else "local")
    parallel = arguments.max_parallel or plan.max_parallel
    if arguments.dry_run:
        statuses, notes = read_statuses(ledger, plan.runs)
        return _say_what_would_start(arguments, ledger, statuses, notes, cluster)
    with sweep_lock(ledger.path):
        statuses, notes = read_statuses(ledger, plan.runs)
        print_notes([*plan.notes, *notes])
        todo = to_start(plan, statuses)
        ledger.commit()
        ledger.forget_cancelled(todo)
        print(f"{plan.name}: {len(todo)} of {len(plan.runs)} runs to start, {_left_alone(statuses)}")
        if cluster == "local":
            return _work_here(arguments, ledger, todo, parallel)
        for job_id, number in hand_to_slurm(ledger, todo, parallel):
            print(f"SLURM job {job_id}: {number} run{'s' if number > 1 else ''}")
    print_next(arguments, "status", "-w")
    return DONE


def plan_(arguments: argparse.Namespace) -> int:
    """Show the runs that the sweep file means."""
    plan, ledger = _open(arguments)
    out = screen.console()
    statuses, notes = read_statuses(ledger, plan.runs)
    screen.print_plan(out, plan, statuses)
    print_notes([*plan.notes, *notes])
    print_next(arguments, "submit")
    return DONE


def status(arguments: argparse.Namespace) -> int:
    """Show how the runs stand."""
    plan, ledger = _open(arguments)
    if arguments.json:
        statuses, notes = read_statuses(ledger, plan.runs)
        runs = [entry.as_json() for entry in statuses]
        record = {"sweep": plan.name, "folder": str(ledger.path), "counts": screen.counts(statuses)}
        print(json.dumps({**record, "notes": notes, "runs": runs}, indent=2))
        return _exit_code(statuses)
    out = screen.console()
    statuses, notes = watch(out, ledger) if arguments.watch else read_statuses(ledger, plan.runs)
    if not (arguments.watch and out.is_terminal):
        screen.print_statuses(out, str(ledger.path), statuses)
    print_notes([*notes, *_strangers(ledger)])
    if any(entry.state in BAD for entry in statuses):
        print_next(arguments, "logs", next(entry.name for entry in statuses if entry.state in BAD))
    else:
        print_next(arguments, "report" if any(entry.state == "done" for entry in statuses) else "submit")
    return _exit_code(statuses)


def show_logs(arguments: argparse.Namespace) -> int:
    """Show the logs of the runs whose name matches."""
    plan, ledger = _open(arguments)
    runs = _matching(plan, [arguments.name])

    def going() -> bool:
        return any(entry.state in GOING for entry in read_statuses(ledger, runs)[0])

    if not logs.show([(run.name, ledger.folder(run)) for run in runs], arguments.follow, going):
        print("there is no log yet")
    print_next(arguments, "status")
    return DONE


def cancel(arguments: argparse.Namespace) -> int:
    """Stop runs (they save first), and take waiting ones out of the queue."""
    plan, ledger = _open(arguments)
    runs = _matching(plan, arguments.names or ["*"])
    statuses, notes = read_statuses(ledger, runs)
    queue = holder(ledger.path)
    touched = [
        (run, entry)
        for run, entry in zip(runs, statuses, strict=True)
        if entry.state in GOING or (queue and entry.state not in ("done", "cancelled"))
    ]
    for run, entry in touched:
        print(f"{'would cancel' if arguments.dry_run else 'cancel'} {run.name} ({entry.state})")
    print_notes(notes)
    if not arguments.dry_run:
        stop(ledger, touched)
    if not touched:
        print("nothing to cancel: none of these runs is going or waiting")
    print_next(arguments, "status")
    return DONE


def make_report(arguments: argparse.Namespace) -> int:
    """Write the results table, and show it."""
    plan, ledger = _open(arguments)
    statuses, notes = read_statuses(ledger, plan.runs)
    print_notes(notes)
    show_report(ledger, statuses)
    print_next(arguments, "status")
    return _exit_code(statuses)


def _open(arguments: argparse.Namespace) -> tuple[Plan, Ledger]:
    plan = load_plan(arguments.sweep)
    return plan, Ledger(plan, arguments.runs_dir)


def _left_alone(statuses: Sequence[RunStatus]) -> str:
    found = screen.counts([entry for entry in statuses if entry.state in LEFT_ALONE])
    return ", ".join(f"{number} {state}" for state, number in found.items()) or "none done or going"


def _work_here(arguments: argparse.Namespace, ledger: Ledger, todo: list[Run], parallel: int | None) -> int:
    """Run in the foreground, show progress, end with the table."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with screen.Progress(screen.console(), ledger.plan.name) as progress:
        queue = LocalQueue(ledger, todo, ledger.plan.runs, progress, parallel)
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
    return _exit_code(statuses)


def _say_what_would_start(
    arguments: argparse.Namespace, ledger: Ledger, statuses: list[RunStatus], notes: list[str], cluster: str
) -> int:
    todo = {run.signature for run in to_start(ledger.plan, statuses)}
    for entry in statuses:
        verb = f"would start on {cluster}" if entry.signature in todo else "would leave"
        print(f"{verb}: {entry.name} ({entry.state})")
    print(f"{len(todo)} of {len(statuses)} runs to start in {ledger.path}; nothing was done")
    print_notes([*ledger.plan.notes, *notes])
    print_next(arguments, "submit")
    return DONE


def _matching(plan: Plan, patterns: Sequence[str]) -> list[Run]:
    """The runs whose names match any of the globs, in the plan's order."""
    found: dict[str, Run] = {}
    for pattern in patterns:
        # A name is itself first: '[...]' in it would be read as a glob.
        hits = [run for run in plan.runs if run.name == pattern or fnmatch.fnmatchcase(run.name, pattern)]
        if not hits:
            names = [run.name for run in plan.runs]
            raise HyperformerError(f"no run is named {pattern!r}{nearest(pattern, names)}")
        found.update((run.signature, run) for run in hits)
    return [run for run in plan.runs if run.signature in found]


def _strangers(ledger: Ledger) -> list[str]:
    """A note on runs of earlier versions of the sweep file: they stay, and go on."""
    planned = {run.signature for run in ledger.plan.runs}
    others = [entry["name"] for mark, entry in ledger.known_runs().items() if mark not in planned]
    if not others:
        return []
    return [f"{len(others)} earlier runs are no longer in the sweep file: {', '.join(others[:5])}"[:300]]


def _exit_code(statuses: Sequence[RunStatus]) -> int:
    return SOME_FAILED if any(entry.state in BAD for entry in statuses) else DONE


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _warn(message: Warning | str, category: type[Warning], *place: object) -> None:
    print_notes([str(message)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=None if sys.argv[0].endswith(".py") else "hyperformer-sweep",
        description="Plan, run and report a sweep of HyperFormer runs. Without a command: submit.",
        epilog="exit codes: 0 well, 1 some run failed, 2 bad input, 130 interrupted",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "sweep", metavar="SWEEP", help="sweep file, or a shipped one's name (demo, glue, ...)"
    )
    shared.add_argument("--runs-dir", type=Path, default=Path("runs"), help="holds a folder a sweep (runs)")
    dry = argparse.ArgumentParser(add_help=False)
    dry.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, and do nothing")

    def add(
        name: str, function: object, help: str, *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help, parents=[shared, *parents])
        command.set_defaults(function=function)
        return command

    one = add("submit", submit, "start the runs that are missing, failed or stopped", dry)
    one.add_argument("--cluster", choices=("slurm", "local"), help="default: slurm if sbatch is there")
    one.add_argument("--max-parallel", type=_positive, metavar="N", help="runs at once at most")
    add("plan", plan_, "show the runs that the file means")
    one = add("status", status, "show how the runs stand")
    one.add_argument("-w", "--watch", action="store_true", help="renew until no run is going")
    one.add_argument("--json", action="store_true", help="for programs")
    one = add("logs", show_logs, "show the logs of runs")
    one.add_argument("name", metavar="NAME", help="name of a run, or a glob such as 'adapters-*'")
    one.add_argument("-f", "--follow", action="store_true", help="go on while the runs go on")
    one = add("cancel", cancel, "stop runs; they save first", dry)
    one.add_argument("names", metavar="GLOB", nargs="*", help="names of runs (default: all)")
    add("report", make_report, "write and show the table of results")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] not in (*_COMMANDS, "-h", "--help"):
        words.insert(0, "submit")
    arguments = _parser().parse_args(words)
    with warnings.catch_warnings():
        warnings.simplefilter("once", ConfigWarning)
        warnings.showwarning = _warn  # type: ignore[assignment]
        try:
            return int(arguments.function(arguments))
        except HyperformerError as error:
            print(f"error: {error}", file=sys.stderr)
            return BAD_INPUT
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:  # the reader (head, less) has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE


if __name__ == "__main__":
    sys.exit(main())
