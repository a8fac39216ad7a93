"""The commands of ``sweep.py`` that start and stop nothing: plan, status, logs, why, report, prefetch, clusters."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from launchers.api import Sweep, View
from launchers.cli import tables
from launchers.cli.output import DONE, Target, exit_code, print_next, print_notes, show_report
from launchers.cli.progress import Progress
from launchers.plan.cluster_profile import PROFILES
from launchers.slurm.first_profile import write_profile
from launchers.slurm.site import read_site
from launchers.status import logs as run_logs
from launchers.status.run_status import BAD, RunStatus
from launchers.status.why import shared_by_failed
from launchers.store.ledger import Ledger

_WATCH_LOCAL_S, _WATCH_SLURM_S = 1.0, 5.0


def plan(target: Target) -> int:
    """Show the runs that the sweep file means."""
    sweep = target.open()
    view = sweep.view()
    tables.print_plan(tables.console(), sweep.plan, view.statuses)
    print_notes([*sweep.plan.notes, *view.notes])
    print_next(target, "submit")
    return DONE


def status(target: Target, watched: bool, as_json: bool) -> int:
    """Show how the runs stand."""
    sweep = target.open()
    if as_json:
        _print_json(sweep, view := sweep.view())
        return exit_code(view.statuses)
    out = tables.console()
    view = _watch(out, sweep) if watched else sweep.view()
    if not (watched and out.is_terminal):
        tables.print_shared(out, sweep.plan)
        tables.print_statuses(out, str(sweep.ledger.path), view.statuses)
    print_notes([*view.notes, *_no_longer_planned(sweep.ledger)])
    if any(entry.state in BAD for entry in view.statuses):
        print_next(target, "logs", next(entry.name for entry in view.statuses if entry.state in BAD))
    elif any(entry.state == "pending" for entry in view.statuses):
        print_next(target, "why")
    else:
        print_next(target, "report" if any(entry.state == "done" for entry in view.statuses) else "submit")
    return exit_code(view.statuses)


def _print_json(sweep: Sweep, view: View) -> None:
    record = {
        "sweep": sweep.plan.name,
        "folder": str(sweep.ledger.path),
        "counts": tables.counts(view.statuses),
        "notes": view.notes,
        "runs": [entry.as_json() for entry in view.statuses],
    }
    print(json.dumps(record, indent=2))


def _watch(out: Console, sweep: Sweep) -> View:
    """Show the runs until none is going; Ctrl-C ends the showing, not the runs."""
    view = View([], [], [])
    with Progress(out, sweep.plan.name) as progress, suppress(KeyboardInterrupt):
        while True:
            view = sweep.view()
            progress.update(view.statuses, "; ".join(view.notes))
            if not any(entry.is_going for entry in view.statuses):
                break
            on_slurm = any(entry.cluster == "slurm" for entry in view.statuses)
            time.sleep(_WATCH_SLURM_S if on_slurm else _WATCH_LOCAL_S)
    return view


def logs(target: Target, names: Sequence[str], follow: bool, rank: int | None) -> int:
    """Show the logs of the runs whose name matches; `rank` None: of all ranks."""
    sweep = target.open()

    def statuses() -> list[RunStatus]:
        return sweep.statuses(*names, max_age_s=run_logs.FIRST_LOOK_S)

    if not run_logs.show(lambda: sweep.logs(*names, rank=rank), statuses if follow else None):
        print("there is no log yet")
    print_next(target, "status")
    return DONE


def why(target: Target, names: Sequence[str]) -> int:
    """Say in a line why each run waits or failed."""
    sweep = target.open()
    view = sweep.view(*names)
    told = sweep.why(view=view)
    for entry in sorted(view.statuses, key=lambda entry: entry.state not in BAD):
        if entry.name in told:
            print(f"{entry.name} ({entry.display_state}): {told[entry.name]}")
    common = shared_by_failed(view.runs, view.statuses)
    if common:
        print(common)
    if not told:
        print("no run waits or failed")
    print_notes(view.notes)
    bad = any(entry.state in BAD for entry in view.statuses)
    print_next(target, "retry" if bad else "status", *(["--failed"] if bad else []))
    return DONE


def report(target: Target, with_plots: bool) -> int:
    """Write the results table, and show it."""
    sweep = target.open()
    view = sweep.view()
    print_notes(view.notes)
    show_report(sweep, view)
    for path in sweep.plots(view) if with_plots else ():
        print(f"plot: {path}")
    print_next(target, "status")
    return exit_code(view.statuses)


def prefetch(target: Target) -> int:
    """Fetch the models and data sets of the sweep, and prove that they load offline."""
    for name in target.open().prefetch():
        print(f"loads offline: {name}")
    print_next(target, "submit")
    return DONE


def list_clusters() -> int:
    """List the cluster profiles."""
    known = {"local": "this machine", "slurm": "SLURM, without a profile"}
    known |= {name: str(path) for name, path in PROFILES.names().items()}
    for name, told in known.items():
        print(f"{name:<16} {told}")
    return DONE


def write_first_profile(name: str) -> int:
    """Write a first profile of this site."""
    path = Path("clusters") / f"{name}.yaml"
    print(write_profile(path, read_site()), end="")
    print(f"\nwritten to {path}; look it over, then: sweep.py SWEEP --cluster {path.stem}")
    return DONE


def _no_longer_planned(ledger: Ledger) -> list[str]:
    """A note on runs of earlier versions of the sweep file: they stay, and go on."""
    planned = {run.signature for run in ledger.plan.runs}
    others = [entry["name"] for mark, entry in ledger.known_runs().items() if mark not in planned]
    if not others:
        return []
    more = ", ..." if len(others) > 5 else ""
    return [f"{len(others)} earlier runs are no longer in the sweep file: {', '.join(others[:5])}{more}"]
