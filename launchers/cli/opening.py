"""What every command of ``sweep.py`` begins and ends with: the sweep on its cluster, the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hyperformer.errors import ConfigError
from launchers.cli.output import print_notes
from launchers.plan.cluster_profile import LOCAL, NO_PROFILE, SLURM, ClusterProfile, load_profile
from launchers.plan.load_plan import make_plan
from launchers.plan.runs import Plan
from launchers.plan.sweep_file import find_sweep, read_sweep
from launchers.slurm import commands
from launchers.status.run_status import BAD, RunStatus
from launchers.store.ledger import Ledger, last_cluster
from launchers.store.sweep_folder import SweepFolder

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def open_sweep(arguments: argparse.Namespace) -> tuple[Plan, Ledger]:
    """The sweep file's plan and its folder.

    The plan's profile is the one that --cluster names; else that of the last time; else SLURM where it is.
    """
    file = read_sweep(find_sweep(arguments.sweep))
    asked = getattr(arguments, "cluster", None)
    last = asked or last_cluster(SweepFolder(arguments.runs_dir.absolute() / file.name))
    plan = make_plan(file, _profile(last, starts=hasattr(arguments, "cluster")))
    return plan, Ledger(plan, arguments.runs_dir)


def _profile(argument: str | None, starts: bool) -> ClusterProfile:
    """The profile of that name; a command that only looks goes without one that can no longer be read."""
    try:
        return load_profile(argument or (SLURM if commands.is_available() else LOCAL))
    except ConfigError as error:
        if starts:
            raise
        print_notes([f"{error}; resources are shown without those of the profile"])
        return NO_PROFILE


def exit_code(statuses: Sequence[RunStatus]) -> int:
    """What the command's process ends with."""
    return SOME_FAILED if any(entry.state in BAD for entry in statuses) else DONE
