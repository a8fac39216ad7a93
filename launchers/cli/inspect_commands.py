"""The commands of ``sweep.py`` that start and stop nothing: plan, status, logs, why, report, prefetch, clusters."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from launchers.cli import tables
from launchers.cli.opening import DONE, exit_code, open_sweep
from launchers.cli.output import print_next, print_notes, show_report, watch
from launchers.plan.cluster_profile import profiles
from launchers.plan.selection import select
from launchers.report.plots import plot_similarities
from launchers.slurm.first_profile import write_profile
from launchers.slurm.site import read_site
from launchers.status import logs as run_logs
from launchers.status import why as plain_words
from launchers.status.read_status import read_statuses
from launchers.status.run_status import BAD
from launchers.store.ledger import Ledger
from launchers.submit import prefetch as hub


def plan(arguments: argparse.Namespace) -> int:
    """Show the runs that the sweep file means."""
    plan, ledger = open_sweep(arguments)
    out = tables.console()
    statuses, notes = read_statuses(ledger, plan.runs)
    tables.print_plan(out, plan, statuses)
    print_notes([*plan.notes, *notes])
    print_next(arguments, "submit")
    return DONE


def status(arguments: argparse.Namespace) -> int:
    """Show how the runs stand."""
    plan, ledger = open_sweep(arguments)
    if arguments.json:
        statuses, notes = read_statuses(ledger, plan.runs)
        runs = [entry.as_json() for entry in statuses]
        record = {"sweep": plan.name, "folder": str(ledger.path), "counts": tables.counts(statuses)}
        print(json.dumps({**record, "notes": notes, "runs": runs}, indent=2))
        return exit_code(statuses)
    out = tables.console()
    statuses, notes = watch(out, ledger) if arguments.watch else read_statuses(ledger, plan.runs)
    if not (arguments.watch and out.is_terminal):
        tables.print_shared(out, plan)
        tables.print_statuses(out, str(ledger.path), statuses)
    print_notes([*notes, *_strangers(ledger)])
    if any(entry.state in BAD for entry in statuses):
        print_next(arguments, "logs", next(entry.name for entry in statuses if entry.state in BAD))
    elif any(entry.state == "pending" for entry in statuses):
        print_next(arguments, "why")
    else:
        print_next(arguments, "report" if any(entry.state == "done" for entry in statuses) else "submit")
    return exit_code(statuses)


def logs(arguments: argparse.Namespace) -> int:
    """Show the logs of the runs whose name matches."""
    plan, ledger = open_sweep(arguments)
    runs = select(plan, arguments.names)

    def going() -> bool:
        return any(entry.is_going for entry in read_statuses(ledger, runs)[0])

    found = run_logs.find(ledger, runs, None if arguments.rank == "all" else int(arguments.rank))
    if not run_logs.show(found, arguments.follow, going):
        print("there is no log yet")
    print_next(arguments, "status")
    return DONE


def why(arguments: argparse.Namespace) -> int:
    """Say in a line why each run waits or failed."""
    plan, ledger = open_sweep(arguments)
    runs = select(plan, arguments.names or ["*"])
    statuses, notes = read_statuses(ledger, runs)
    told = 0
    for entry in sorted(statuses, key=lambda entry: entry.state not in BAD):
        line = plain_words.why(entry, ledger)
        if line:
            told += 1
            print(f"{entry.name} ({entry.display_state}): {line}")
    common = plain_words.shared_by_failed(runs, statuses)
    if common:
        print(common)
    if not told:
        print("no run waits or failed")
    print_notes(notes)
    bad = any(entry.state in BAD for entry in statuses)
    print_next(arguments, "retry" if bad else "status", *(["--failed"] if bad else []))
    return DONE


def report(arguments: argparse.Namespace) -> int:
    """Write the results table, and show it."""
    plan, ledger = open_sweep(arguments)
    statuses, notes = read_statuses(ledger, plan.runs)
    print_notes(notes)
    show_report(ledger, statuses)
    if arguments.plots:
        for path in plot_similarities(ledger, statuses):
            print(f"plot: {path}")
    print_next(arguments, "status")
    return exit_code(statuses)


def prefetch(arguments: argparse.Namespace) -> int:
    """Fetch the models and data sets of the sweep, and prove that they load offline."""
    plan, ledger = open_sweep(arguments)
    names = hub.fetch(plan.runs, ledger.path, dict(plan.profile.environment))
    for name in names:
        print(f"loads offline: {name}")
    print_next(arguments, "submit")
    return DONE


def clusters(arguments: argparse.Namespace) -> int:
    """List cluster profiles, or write a first one."""
    if arguments.action == "init":
        path = Path("clusters") / f"{arguments.name or 'site'}.yaml"
        print(write_profile(path, read_site()), end="")
        print(f"\nwritten to {path}; look it over, then: sweep.py SWEEP --cluster {path.stem}")
        return DONE
    known = {"local": "this machine", "slurm": "SLURM, without a profile"}
    known |= {name: str(path) for name, path in profiles().items()}
    for name, told in known.items():
        print(f"{name:<16} {told}")
    return DONE


def _strangers(ledger: Ledger) -> list[str]:
    """A note on runs of earlier versions of the sweep file: they stay, and go on."""
    planned = {run.signature for run in ledger.plan.runs}
    others = [entry["name"] for mark, entry in ledger.known_runs().items() if mark not in planned]
    if not others:
        return []
    return [f"{len(others)} earlier runs are no longer in the sweep file: {', '.join(others[:5])}"[:300]]
