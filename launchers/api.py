"""Sweeps from Python: the service that notebooks and the command line call. It prints nothing and asks nobody.

>>> from launchers.api import Sweep                         # doctest: +SKIP
>>> sweep = Sweep.load("sweeps/demo.yaml", cluster="local")  # doctest: +SKIP
>>> sweep.submit()                                          # doctest: +SKIP
>>> sweep.results()                                         # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyperformer.errors import ConfigError, HyperformerError
from launchers import sweep_report
from launchers.bundle.archive import SUFFIX, check_name
from launchers.bundle.make_bundle import Bundle, make_bundle
from launchers.bundle.report_check import report_faults
from launchers.open_sweep import open_sweep
from launchers.plan.grid.check_combination import UnreadableInput
from launchers.plan.model_selection.choose import Choice
from launchers.plan.model_selection.choose import choose as choose_settings
from launchers.plan.plan import Run
from launchers.plan.select_runs import select_runs
from launchers.report import csv_files, page_redraw
from launchers.report.report_data import ReportData
from launchers.report.results import collect
from launchers.report.similarity_plots import plot_similarities
from launchers.status import logs, why
from launchers.status.extend_runs import LongerRun, extend, find_longer
from launchers.status.logs import LogFile
from launchers.status.run_status import RunStatus
from launchers.store.done_runs.checkpoints import KeptCheckpoints, find_checkpoints, remove_checkpoints
from launchers.store.ledger import Ledger
from launchers.submit import cancel, prefetch, preflight
from launchers.submit.race import race_gate
from launchers.submit.start import (
    NotConfirmed,
    StartCallbacks,
    StartOptions,
    StartPlan,
    SubmitResult,
    choose_runs,
    dry_run,
    start,
)
from launchers.submit.start_rule import SUBMIT, StartChoice, StartRule, retry_rule
from launchers.sweep_view import View, read_view

_ANSWER_S = 30.0
"""How old SLURM's answer on other jobs may be for a page."""

__all__ = ["NotConfirmed", "StartOptions", "StartPlan", "SubmitResult", "Sweep", "View"]


class QuietCallbacks:
    """Prints nothing; confirms the cost if `yes`, else raises NotConfirmed."""

    def __init__(self, yes: bool) -> None:
        self._yes = yes

    def announce(self, start: StartPlan) -> None: ...

    def note(self, text: str) -> None: ...

    def update(self, statuses: Sequence[RunStatus], message: str = "") -> None: ...

    def confirm(self, question: str) -> bool:
        if not self._yes:
            raise NotConfirmed(f"{question}; say yes=True to submit them")
        return True


class Sweep:
    """One sweep file, expanded for the cluster that its runs go to, and its folder of runs.

    Args:
        fault: why the profile that the sweep was started with, or a file in its settings, cannot be read any
            more; `plan` is without it, and nothing can start.
    """

    def __init__(self, ledger: Ledger, fault: ConfigError | None = None) -> None:
        self.plan, self.ledger = ledger.plan, ledger
        self._fault = fault

    @classmethod
    def load(cls, sweep: str | Path, runs_dir: str | Path = "runs", cluster: str | None = None) -> Sweep:
        """Read a sweep file, or a shipped one by name; of one with stages, FILE:STAGE.

        Args:
            runs_dir: holds a folder per sweep.
            cluster: local, slurm, a profile's name or its file; default: as last time, else SLURM where
                sbatch is found, else this machine.

        Raises:
            ConfigError: with file, line and key.
        """
        opened = open_sweep(sweep, runs_dir, cluster)
        return cls(opened.ledger, opened.fault)

    def submit(
        self, max_parallel: int | None = None, yes: bool = False, ignore: Collection[str] = ()
    ) -> SubmitResult:
        """Start what is missing, failed or stopped.

        On SLURM it returns when SLURM has the jobs, on this machine when all runs have ended.

        Args:
            max_parallel: runs at once at most.
            yes: also above the profile's `confirm_above`.
            ignore: names of preflight findings, as in brackets after each.

        Raises:
            PreflightError, ClusterError, LockError: nothing was started, or not all; the message says which.
            NotConfirmed: the cost estimate is above `confirm_above`.
        """
        return self._start(SUBMIT, StartOptions(max_parallel, frozenset(ignore)), yes)

    def retry(self, *names: str, failed: bool = False, oom: bool = False, yes: bool = False) -> SubmitResult:
        """Start again those of the runs that did not end well.

        Args:
            names: names, globs, key=value; none: all.
            failed: no stopped or cancelled runs.
            oom: only those that ran out of memory.

        Raises:
            as :meth:`submit`.
        """
        return self._start(retry_rule(names, failed, oom), StartOptions(), yes)

    def _start(self, rule: StartRule, options: StartOptions, yes: bool) -> SubmitResult:
        result = self.start(rule, options, QuietCallbacks(yes))
        if self.plan.profile.is_local and self.plan.renew_report and result.started:
            with suppress(HyperformerError, OSError):  # a page that is out of date is no reason to fail
                page_redraw.request(self.ledger.paths)
                self.renew_page("submit")
        return result

    def start(self, rule: StartRule, options: StartOptions, callbacks: StartCallbacks) -> SubmitResult:
        """Start the runs that a rule names; what :meth:`submit` and :meth:`retry` do."""
        preflight.check_ignored(options.ignored)
        return start(self._ledger_to_start(), rule, options, callbacks)

    def dry_run(self, rule: StartRule = SUBMIT, options: StartOptions | None = None) -> StartPlan:
        """What :meth:`start` would do: `todo`, and on SLURM `estimate` and the sbatch files in `texts`."""
        options = options or StartOptions()
        preflight.check_ignored(options.ignored)
        return dry_run(self._ledger_to_start(is_dry_run=True), rule, options)

    def choose(self, rule: StartRule, view: View | None = None) -> tuple[StartChoice, View]:
        """Which runs a rule starts now, and the state of all runs. `view`: of all runs, if there is one."""
        view = view or self.view()
        choice, statuses, _ = choose_runs(self.ledger, rule, view.statuses)
        return choice, replace(view, statuses=statuses)

    def view(self, *names: str, max_age_s: float = 0.0) -> View:
        """The state of runs.

        Args:
            names: names, globs, key=value; none: all.
            max_age_s: how old an answer of SLURM may be that another process has read for this sweep.
        """
        view = read_view(self.ledger, self._select(names), max_age_s)
        return replace(view, notes=[*view.notes, *self.input_notes])

    def statuses(self, *names: str, max_age_s: float = 0.0) -> list[RunStatus]:
        """The state of each of the runs; as :meth:`view`."""
        return self.view(*names, max_age_s=max_age_s).statuses

    def status(self) -> Any:
        """A data frame with a row per run; where pandas is not installed, a list of dicts."""
        return _frame(
            [{**entry.as_json(), "display_state": entry.display_state} for entry in self.statuses()],
            index="name",
        )

    def why(self, *names: str, view: View | None = None) -> dict[str, str]:
        """A line for each run that waits or did not end well, by the run's name."""
        view = view or self.view(*names)
        lines = {entry.name: why.why(entry, self.ledger) for entry in view.statuses}
        return {name: line for name, line in lines.items() if line}

    def logs(self, *names: str, rank: int | None = 0) -> list[LogFile]:
        """The log files of each run's newest attempt; `rank` None: of all ranks."""
        return logs.find(self.ledger, self._select(names), rank)

    def to_extend(self, *names: str) -> list[LongerRun]:
        """Those of the runs that continue a run which is done with fewer steps, and whether they can."""
        return find_longer(self.ledger, self._select(names))

    def extend(self, *names: str) -> list[str]:
        """Make runs that are done longer, after `max_steps` was raised in the sweep file; returns their names.

        The next :meth:`submit` continues them.

        Raises:
            LockError, RunInUse: another process works on the sweep, or on one of the runs.
        """
        longer = [one for one in self.to_extend(*names) if not one.why_not]
        extend(self.ledger, longer)
        return [one.run.name for one in longer]

    def to_clean(self, *names: str) -> tuple[list[KeptCheckpoints], View]:
        """The checkpoints of those of the runs that are done."""
        view = self.view(*names)
        both = zip(view.runs, view.statuses, strict=True)
        return find_checkpoints(self.ledger, [run for run, entry in both if entry.state == "done"]), view

    def clean(self, kept: Sequence[KeptCheckpoints]) -> None:
        """Remove checkpoints that :meth:`to_clean` found, and no others; their runs cannot be extended then.

        Raises:
            LockError, RunInUse: another process works on the sweep, or on one of the runs.
        """
        remove_checkpoints(self.ledger, kept)

    def to_cancel(self, *names: str) -> tuple[list[tuple[Run, RunStatus]], View]:
        """Those of the runs that go or wait."""
        view = self.view(*names)
        return cancel.to_cancel(view.runs, view.statuses), view

    def cancels_race(self, *names: str) -> bool:
        """Whether :meth:`cancel` ends a race that continues by itself."""
        return self.plan.race is not None and not names and race_gate.is_waiting(self.ledger)

    def cancel(self, *names: str) -> list[str]:
        """Cancel the runs that go or wait among `names` (none: all); returns their names.

        Raises:
            ClusterError: SLURM refuses, or a run is on another machine.
        """
        chosen, _ = self.to_cancel(*names)
        if self.cancels_race(*names):
            race_gate.cancel(self.ledger)
        cancel.cancel(self.ledger, chosen)
        return [run.name for run, _ in chosen]

    def results(self) -> Any:
        """The results table as a data frame: a row per split, and variant with its settings.

        Where pandas is not installed: a list of dicts.
        """
        return _frame(csv_files.result_records(self.report_data(self.view()).tables))

    def choices(self) -> list[Choice]:
        """The setting that `select:` chooses for each variant now; [] without it."""
        found = collect(self.ledger, self.statuses())
        rule = self.plan.select
        return choose_settings(rule, [one.on("validation") for one in found]) if rule else []

    def report_data(self, view: View | None = None) -> ReportData:
        """What the report says, as plain data; nothing is written."""
        return sweep_report.report_data(self.ledger, view or self.view())

    def report(self, view: View | None = None, with_pdf: bool = False) -> tuple[Path, ReportData]:
        """Write the files of the report; returns the path of index.html, and what is in them.

        Args:
            with_pdf: report.pdf too, which needs a TeX.

        Raises:
            HyperformerError: nothing was started yet, and nothing was written; or the PDF cannot be made.
        """
        written = sweep_report.write_report(self.ledger, view or self.view(), with_pdf)
        self.renew_page("report")  # a job may have ended meanwhile
        return written

    def renew_page(self, by: str) -> bool:
        """Draw index.html of the report again, unless it shows all runs that have ended, or another one draws it.

        Returns:
            Whether it was drawn.

        Args:
            by: who draws, for the page to say.

        Raises:
            HyperformerError: it has figures, which cannot be drawn here.
        """
        return sweep_report.renew_page(self.ledger, lambda: self.view(max_age_s=_ANSWER_S), by)

    def bundle(
        self, path: Path | None = None, with_weights: bool = False, view: View | None = None
    ) -> Bundle:
        """Pack all that a reviewer needs into one archive; the report is written again if it is not up to date.

        Args:
            path: default: ``<sweep>-bundle.zip`` in the working directory.
            with_weights: also the trained weights.

        Raises:
            HyperformerError: nothing was started yet, or the file is there already; nothing was written.
        """
        view = view or self.view()
        path = path or Path(f"{self.plan.name}-bundle{SUFFIX}")
        check_name(path)
        if not view.has_begun:
            raise HyperformerError(f"{self.plan.name}: nothing was started yet, so there is nothing to pack")
        if any(report_faults(self.ledger.paths.report, self.report_data(view))):
            self.report(view)
        return make_bundle(path, self.ledger, view.statuses, with_weights)

    def plots(self, view: View | None = None) -> list[Path]:
        """Draw how alike the tasks of each hypernetwork are; returns the files."""
        return list(plot_similarities(self.ledger, (view or self.view()).statuses))

    def _select(self, names: Sequence[str]) -> list[Run]:
        return select_runs(self.plan, names) if names else list(self.plan.runs)

    def prefetch(self) -> list[str]:
        """Fetch models and data sets, and prove that they load offline; returns their names.

        Raises:
            PrefetchError: with everything that cannot be loaded.
        """
        ledger = self._ledger_to_start()
        return prefetch.fetch(self.plan.runs, ledger.path, dict(self.plan.profile.environment))

    @property
    def input_notes(self) -> list[str]:
        """What is wrong with a file in the settings, and what that means for the runs."""
        if not isinstance(self._fault, UnreadableInput):
            return []
        return [f"{self._fault}. Nothing can start until then; runs are shown as they were last planned"]

    def check_inputs(self) -> None:
        """See that the files in the settings could be read.

        Raises:
            UnreadableInput: one could not.
        """
        if isinstance(self._fault, UnreadableInput):
            raise self._fault

    def _ledger_to_start(self, is_dry_run: bool = False) -> Ledger:
        if self._fault:
            raise self._fault
        if self.plan.waits and not is_dry_run:
            raise HyperformerError(
                f"{self.plan.name}: the runs that it starts from are not done, or not chosen yet; nothing was started"
            )
        return self.ledger


def _frame(rows: list[dict[str, Any]], index: str | None = None) -> Any:
    try:
        import pandas
    except ImportError:
        return rows
    frame = pandas.DataFrame(rows)
    return frame.set_index(index) if index and rows else frame
