"""From the name of a sweep to its plan and its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.files import is_text
from launchers.plan.cluster_profile import LOCAL, NO_PROFILE, SLURM, load_profile
from launchers.plan.grid.check_combination import UnreadableInput
from launchers.plan.load_plan import make_plan
from launchers.plan.model_selection.choose import Validation
from launchers.plan.plan import Plan
from launchers.plan.sweep_file import SWEEPS, read_sweep
from launchers.plan.sweep_keys.source_runs import SourceRun, find_run
from launchers.plan.sweep_keys.stages import StageSource, split_target
from launchers.report.results import collect
from launchers.slurm import commands
from launchers.status.read_status import read_statuses
from launchers.store.ledger import Ledger, last_cluster
from launchers.store.sweep_folder import SweepFolder


@dataclass(frozen=True)
class OpenedSweep:
    """A sweep file, expanded for the cluster that its runs go to. `fault`: as in :class:`launchers.api.Sweep`."""

    plan: Plan
    ledger: Ledger
    fault: ConfigError | None = None


def open_sweep(sweep: str | Path, runs_dir: str | Path = "runs", cluster: str | None = None) -> OpenedSweep:
    """Read a sweep file; arguments and errors as of :meth:`launchers.api.Sweep.load`."""
    name, stage = split_target(sweep)
    path = SWEEPS.find(name)
    folder = _folder_of_sweeps(runs_dir)
    for what, place in (("the sweep file", path.absolute()), ("runs_dir", folder)):
        if not is_text(str(place)):
            raise ConfigError(
                f"{what} {place}: its path has bytes that are no UTF-8, which no record can hold; rename it"
            )
    file = read_sweep(path, stage)
    # A stage goes where those before it went.
    names = [file.name, *(f"{file.name.removesuffix(stage)}{one}" for one in reversed(file.earlier))]
    last = next(filter(None, (last_cluster(SweepFolder(folder / one)) for one in names)), None)
    fault = None
    try:
        profile = load_profile(cluster or last or (SLURM if commands.is_available() else LOCAL))
    except ConfigError as error:
        if cluster:
            raise
        profile, fault = NO_PROFILE, error
    try:
        plan = make_plan(file, profile, find_source=_EarlierStages(path, folder, cluster).find)
    except UnreadableInput as error:  # what is running can be seen, and stopped, all the same
        plan, fault = make_plan(file, profile, reads=False), error
    ledger = Ledger(plan, folder)
    return OpenedSweep(ledger.plan, ledger, fault)


class _EarlierStages:
    """The runs of the stages before one, by what `init_from` says."""

    def __init__(self, file: Path, runs_dir: Path, cluster: str | None) -> None:
        self._place = file, runs_dir, cluster
        self._opened: dict[str, tuple[OpenedSweep, list[Validation]]] = {}

    def find(self, source: StageSource, values: Mapping[str, Any]) -> SourceRun | None:
        if source.stage not in self._opened:
            file, runs_dir, cluster = self._place
            sweep = open_sweep(f"{file}:{source.stage}", runs_dir, cluster)
            results = collect(sweep.ledger, read_statuses(sweep.ledger, sweep.plan.runs)[0])
            self._opened[source.stage] = sweep, [one.on("validation") for one in results]
        sweep, validations = self._opened[source.stage]
        run = find_run(source, sweep.plan, validations, values)
        return SourceRun(run, sweep.ledger.folder(run)) if run else None


def _folder_of_sweeps(runs_dir: str | Path) -> Path:
    """Absolute, with `~` replaced. Raises ConfigError if it is something else than a folder."""
    try:
        folder = Path(runs_dir).expanduser().absolute()
    except RuntimeError as error:  # ~somebody that this machine does not know
        raise ConfigError(f"runs_dir {runs_dir}: {error}") from error
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ConfigError(f"runs_dir {runs_dir}: {there} is not a folder")
    return folder
