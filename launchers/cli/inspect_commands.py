"""The commands of ``sweep.py`` that start and stop nothing: plan, status, logs, why, report, compare, ..."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from hyperformer.commands.inspection.parser import check_faults, check_rows
from hyperformer.errors import ConfigError
from hyperformer.files import write_json
from launchers.api import Sweep, View
from launchers.cli.display import tables
from launchers.cli.display.layout import console
from launchers.cli.display.progress import Progress
from launchers.cli.output import (
    DONE,
    Target,
    exit_code,
    print_next,
    print_notes,
    print_page,
    print_paths,
    print_results,
    show_report,
)
from launchers.cli.suggested_command import STATUS, SUBMIT, after_report, after_status, after_why
from launchers.plan.cluster_profile import PROFILES
from launchers.plan.select_runs import select_runs
from launchers.report import files
from launchers.report.compare import compare_reports
from launchers.report.files import PAGE
from launchers.slurm.profile_from_site import write_profile
from launchers.slurm.site import read_site
from launchers.status import logs as run_logs
from launchers.status.polling import FILES_S, SLURM_S, Watch
from launchers.status.why import shared_by_failed
from launchers.store.ledger import Ledger
from launchers.submit.start_rule import retry_rule


def plan(target: Target) -> int:
    """Show the runs that the sweep file means."""
    sweep = target.open()
    sweep.check_inputs()
    view = sweep.view()
    tables.print_plan(console(), sweep.plan, view.statuses)
    print_notes([*sweep.plan.notes, *view.notes])
    print_next(target, after_status(view.statuses, view.race_continues))
    return DONE


def data(target: Target, rows: int) -> int:
    """Show what the tasks of the sweep's runs look like; what several runs read alike is shown once."""
    # torch: too slow for the other commands
    from hyperformer.commands.inspection.data_report import print_data

    check_rows(rows)
    sweep = target.open()
    sweep.check_inputs()
    check_faults(print_data((run.config for run in sweep.plan.runs), rows))
    return DONE


def status(target: Target, names: Sequence[str], watched: bool, as_json: bool) -> int:
    """Show the state of the runs."""
    sweep = target.open()
    if as_json:
        view = sweep.view(*names)
        print(json.dumps(status_record(sweep, view), indent=2))
        return exit_code(view.statuses)
    out = console()
    view = _watch(out, sweep, names) if watched else sweep.view(*names)
    if not (watched and out.is_terminal):
        tables.print_shared(out, sweep.plan)
        tables.print_statuses(out, str(sweep.ledger.path), view.statuses)
        print_page(sweep.ledger.paths.report)
    print_notes([*view.notes, *_no_longer_planned(sweep.ledger)])
    print_next(target, after_status(view.statuses, view.race_continues))
    return exit_code(view.statuses)


def status_record(sweep: Sweep, view: View) -> dict[str, Any]:
    """What `status --json` prints."""
    page = sweep.ledger.paths.report / PAGE
    return {
        "sweep": sweep.plan.name,
        "folder": str(sweep.ledger.path),
        "counts": tables.counts(view.statuses),
        "notes": view.notes,
        "report": str(page) if page.is_file() else None,
        "runs": [entry.as_json() for entry in view.statuses],
    }


def _watch(out: Console, sweep: Sweep, names: Sequence[str]) -> View:
    """Show the runs until none is active or to start by itself; Ctrl-C ends only the display."""
    view = sweep.view(*names)
    watch = Watch(SLURM_S if any(entry.cluster == "slurm" for entry in view.statuses) else FILES_S)
    with Progress(out, sweep.plan.name) as progress, suppress(KeyboardInterrupt):
        while True:
            progress.update(view.statuses, "; ".join(view.notes))
            if not watch.goes_on(view.is_active, view.statuses):
                break
            time.sleep(watch.pause_s)
            view = sweep.view(*names, max_age_s=watch.pause_s)
    return view


def logs(target: Target, names: Sequence[str], follow: bool, rank: int | None) -> int:
    """Show the logs of the runs whose name matches; `rank` None: of all ranks."""
    sweep = target.open()
    print_notes(sweep.input_notes)

    def view(max_age_s: float) -> View:
        return sweep.view(*names, max_age_s=max_age_s)

    if not run_logs.show(lambda: sweep.logs(*names, rank=rank), view if follow else None):
        print("there is no log yet")
    print_next(target, STATUS)
    return DONE


def why(target: Target, names: Sequence[str]) -> int:
    """Say in a line why each run waits or failed."""
    sweep = target.open()
    retry, view = sweep.choose(retry_rule(names, failed=True))
    meant = {run.signature for run in select_runs(sweep.plan, names or ["*"])}
    statuses = [entry for entry in view.statuses if entry.signature in meant]
    lines = sweep.why(view=view)
    explained = [(entry, lines[entry.name]) for entry in statuses if entry.name in lines]
    for members, line in tables.group_by_text(explained):
        print(f"{tables.run_names(members)} ({members[0].display_state}): {line}")
    common = shared_by_failed(view.runs, view.statuses)
    if common:
        print(common)
    if not explained:
        found = ", ".join(f"{number} {state}" for state, number in tables.counts(statuses).items())
        print(f"no run waits or failed: {found}")
    print_notes(view.notes)
    print_next(target, after_why(statuses, retry))
    return DONE


def report(target: Target, with_plots: bool = False, with_pdf: bool = False) -> int:
    """Write the results table, and show it."""
    sweep = target.open()
    view = sweep.view()
    print_notes(view.notes)
    show_report(sweep, view, with_pdf)
    for path in sweep.plots(view) if with_plots else ():
        print(f"plot: {path}")
    print_next(target, after_report(view.statuses, view.race_continues))
    return exit_code(view.statuses)


def compare(targets: Sequence[Target], output: Path | None, with_pdf: bool) -> int:
    """Write one report of several sweeps, and show its table."""
    sweeps = [target.open() for target in targets]
    names = [sweep.plan.name for sweep in sweeps]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"compare: sweep {twice[0]} is given twice; name different sweeps")
    data = compare_reports([sweep.report_data() for sweep in sweeps])
    folder = output or targets[0].runs_dir / "compare" / "+".join(names)
    compared = folder / "compared.json"
    if folder.is_dir() and any(folder.iterdir()) and not compared.is_file():
        raise ConfigError(f"compare: {folder} has other files in it; give --output a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(compared, names)
    path = files.write_report(folder, data, with_pdf)
    print_results(data)
    print_paths(path, with_pdf)
    return DONE


def prefetch(target: Target) -> int:
    """Fetch the models and data sets of the sweep, and prove that they load offline."""
    for name in target.open().prefetch():
        print(f"loads offline: {name}")
    print_next(target, SUBMIT)
    return DONE


def list_clusters(name: str | None) -> int:
    """List the cluster profiles; a name belongs to `init`."""
    if name is not None:
        raise ConfigError(f"clusters list {name}: write `clusters init {name}`, or `clusters list` alone")
    known = {"local": "this machine", "slurm": "SLURM, without a profile"}
    known |= {name: str(path) for name, path in PROFILES.names().items()}
    for name, description in known.items():
        print(f"{name:<16} {description}")
    return DONE


def init_profile(name: str) -> int:
    """Write a first profile of this site."""
    path = Path("clusters") / f"{name}.yaml"
    print(write_profile(path, read_site()), end="")
    print(f"\nwritten to {path}; look it over, then: sweep.py SWEEP --cluster {path.stem}")
    return DONE


def _no_longer_planned(ledger: Ledger) -> list[str]:
    """A note on runs of earlier versions of the sweep file: they stay, and continue."""
    planned = {run.signature for run in ledger.plan.runs}
    others = [entry["name"] for signature, entry in ledger.known_runs().items() if signature not in planned]
    if not others:
        return []
    names = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
    return [f"{len(others)} earlier runs are no longer in the sweep file: {names}"]
