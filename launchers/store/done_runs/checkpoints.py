"""The checkpoints of runs that are done: they take most of a sweep's disk space, and only `extend` needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyperformer.run_files.checkpoint_folder import CheckpointFolder
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.run_files.run_lock import hold
from launchers.plan.plan import Run
from launchers.store.ledger import Ledger
from launchers.store.lock import sweep_lock


@dataclass(frozen=True)
class KeptCheckpoints:
    """The checkpoints that a run which is done still has; `size` in bytes on disk."""

    run: Run
    folder: Path
    size: int


def find_checkpoints(ledger: Ledger, done: Sequence[Run]) -> list[KeptCheckpoints]:
    """Those of the runs, which are done, that have checkpoints."""
    found = []
    for run in done:
        folder = ledger.folder(run)
        size = CheckpointFolder(RunFolder(folder).checkpoints).disk_size()
        if size is not None:
            found.append(KeptCheckpoints(run, folder, size))
    return found


def remove_checkpoints(ledger: Ledger, kept: Sequence[KeptCheckpoints]) -> None:
    """Remove the checkpoints; results, answers, logs and trained weights (``adapter/``) stay.

    Raises:
        LockError, RunInUse: another process works on the sweep, or on one of these runs.
    """
    with sweep_lock(ledger.path):
        for one in kept:
            with hold(one.folder):
                # It may have been made longer since it was found.
                if RunFolder(one.folder).result.exists():
                    CheckpointFolder(RunFolder(one.folder).checkpoints).remove()
