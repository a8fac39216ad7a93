"""What every command says: notes, the next useful command, progress, the table of results."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from launchers.cli import tables
from launchers.cli.tables import Progress, console
from launchers.report import files, results_table
from launchers.status.read_status import read_statuses
from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger

_WATCH_LOCAL_S, _WATCH_SLURM_S = 1.0, 5.0


def print_notes(notes: Sequence[str]) -> None:
    """To standard error, so that --json stays JSON."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def print_next(arguments: argparse.Namespace, command: str, *more: str) -> None:
    """The next useful command, ready to copy."""
    program = ["hyperformer-sweep"]
    if sys.argv[0].endswith(".py"):
        program = ["python", str(_short(Path(sys.argv[0])))]
    words = [*program, command, arguments.sweep, *more]
    if command == "submit" and getattr(arguments, "cluster", None):
        words += ["--cluster", arguments.cluster]
    if arguments.runs_dir != Path("runs"):
        words += ["--runs-dir", str(arguments.runs_dir)]
    print(f"next: {shlex.join(words)}")


def agreed(arguments: argparse.Namespace, question: str) -> bool:
    """Whether the user says yes; -y does, and so does whoever has no terminal to be asked on."""
    if arguments.yes or not sys.stdin.isatty():
        return True
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _short(path: Path) -> Path:
    """Relative to the working directory if it lies below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def watch(out: Console, ledger: Ledger) -> tuple[list[RunStatus], list[str]]:
    """Show the runs until none is going; Ctrl-C ends the showing, not the runs."""
    statuses: list[RunStatus] = []
    notes: list[str] = []
    with Progress(out, ledger.plan.name) as progress, suppress(KeyboardInterrupt):
        while True:
            statuses, notes = read_statuses(ledger, ledger.plan.runs)
            progress.update(statuses, "; ".join(notes))
            if not any(entry.is_going for entry in statuses):
                break
            on_slurm = any(entry.cluster == "slurm" for entry in statuses)
            time.sleep(_WATCH_SLURM_S if on_slurm else _WATCH_LOCAL_S)
    return statuses, notes


def show_report(ledger: Ledger, statuses: Sequence[RunStatus]) -> None:
    """Write the report, and show its table."""
    entries = results_table.collect(ledger, statuses)
    path = files.write_report(ledger.paths.report, ledger.plan.name, entries)
    out = console()
    table = results_table.make_table(entries, results_table.splits(entries)[0])
    out.print(f"\n{ledger.plan.name}: {table.split} results, percent", style="bold")
    for piece in tables.screen_tables(table):
        out.print(piece)
    for note in files.footnotes(table):
        out.print(note)
    print(f"\nreport: {_short(path)}")
