"""What every command of ``sweep.py`` begins and ends with: the sweep, its cluster, the exit code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from launchers.plan.cluster_profile import ClusterProfile, load_profile
from launchers.plan.runs import Plan, load_plan
from launchers.slurm import commands
from launchers.status.run_status import BAD, RunStatus
from launchers.store.ledger import Ledger

DONE, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def open_sweep(arguments: argparse.Namespace, profile: ClusterProfile | None = None) -> tuple[Plan, Ledger]:
    """The sweep file's plan and its folder; `profile`: whose resources lie under the file's own."""
    plan = load_plan(arguments.sweep, profile.resources if profile else None)
    return plan, Ledger(plan, arguments.runs_dir)


def profile_of(arguments: argparse.Namespace, ledger: Ledger) -> ClusterProfile:
    """The profile that --cluster names; else that of the last time, else SLURM where it is."""
    return load_profile(
        arguments.cluster or ledger.last_cluster() or ("slurm" if commands.here() else "local")
    )


def exit_code(statuses: Sequence[RunStatus]) -> int:
    """What the command's process ends with."""
    return SOME_FAILED if any(entry.state in BAD for entry in statuses) else DONE
