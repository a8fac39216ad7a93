"""What every command says: notes, questions, the next useful command, the table of results, the exit code."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launchers.api import Sweep, View
from launchers.cli.display import tables
from launchers.cli.display.layout import console, print_table
from launchers.cli.suggested_command import SuggestedCommand
from launchers.report.files import PAGE, PDF
from launchers.report.latex.table import LATEX
from launchers.report.report_data import ReportData
from launchers.report.text import choice_text, footnotes
from launchers.status.run_status import BAD, RunStatus

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Target:
    """What a command is about, as the user named it.

    Attributes:
        of_all: of a stage, while a command does all of them: collects what would be next of each stage.
    """

    sweep: str
    runs_dir: Path
    cluster: str | None = None
    of_all: list[tuple[Target, SuggestedCommand]] | None = None

    @property
    def alone(self) -> Target:
        """The same, no longer as one of all stages."""
        return replace(self, of_all=None)

    def open(self) -> Sweep:
        """Read the sweep file, the cluster's profile and the sweep's folder. Raises ConfigError."""
        return Sweep.load(self.sweep, self.runs_dir, self.cluster)


def exit_code(statuses: Sequence[RunStatus]) -> int:
    """What the command's process ends with."""
    return SOME_FAILED if any(entry.state in BAD for entry in statuses) else DONE


def print_notes(notes: Sequence[str]) -> None:
    """To standard error, so that --json stays JSON."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def print_next(target: Target, step: SuggestedCommand) -> None:
    """The next useful command, ready to copy; of one of all stages it is collected."""
    if target.of_all is not None:
        target.of_all.append((target.alone, step))
        return
    program = ["hyperformer-sweep"]
    if sys.argv[0].endswith(".py"):
        program = ["python", str(short_path(Path(sys.argv[0])))]
    words = [*program, step.command, target.sweep, *step.words]
    if step.command in ("submit", "retry") and target.cluster:
        words += ["--cluster", target.cluster]
    if target.runs_dir != Path("runs"):
        words += ["--runs-dir", str(target.runs_dir)]
    print(f"next: {shlex.join(words)}")


def can_ask() -> bool:
    """Whether a user is at a terminal."""
    return sys.stdin.isatty()


def ask(question: str) -> bool:
    """Ask on the terminal; no answer is a no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def agreed(question: str, yes: bool) -> bool:
    """Whether the user says yes; so do `yes` (-y), and a process without a terminal to ask on."""
    return yes or not can_ask() or ask(question)


def short_path(path: Path) -> Path:
    """Relative to the working directory if it is below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def show_report(sweep: Sweep, view: View, with_pdf: bool = False) -> None:
    """Write the report, and show its table."""
    if not view.has_begun:
        print(f"{sweep.plan.name}: nothing was started yet, so there is no report")
        return
    path, data = sweep.report(view, with_pdf)
    print_results(data)
    print_paths(path, with_pdf)


def print_paths(page: Path, with_pdf: bool) -> None:
    """Where a report is."""
    print(f"\nreport: {short_path(page)}")
    print(f"for a paper: {short_path(page.with_name(LATEX))}")
    if with_pdf:
        print(f"pdf: {short_path(page.with_name(PDF))}")


def print_page(report: Path, what: str = "report") -> None:
    """Where the page of a report is, and its age; nothing where there is none yet."""
    page = report / PAGE
    if page.is_file():
        minutes = max(0, round((time.time() - page.stat().st_mtime) / 60))
        print(f"{what}: {short_path(page)} (written {minutes} min ago)")


def print_results(data: ReportData) -> None:
    """Show the first table of a report, and what must be known of it."""
    out = console()
    table = data.tables[0]
    out.print(f"\n{data.name}: {table.split} results, percent", style="bold")
    for piece in tables.result_tables(table, out.width):
        print_table(out, piece)
    for note in [*footnotes(table), *map(choice_text, data.choices), *data.notes]:
        out.print(note)
