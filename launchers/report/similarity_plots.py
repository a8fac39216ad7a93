"""Plots of how similar the tasks of each hypernetwork are (`report --plots`). torch is imported late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.methods import METHODS
from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger


def plot_similarities(ledger: Ledger, statuses: Sequence[RunStatus]) -> Iterator[Path]:
    """Draw the similarity of the task embeddings of every finished run that has them.

    Yields:
        Each plot's file, ``report/similarity-<run>.svg``.

    Raises:
        ConfigError: matplotlib is missing.
        CheckpointError: a run's adapter is damaged.
    """
    from hyperformer.commands.similarity import plot_similarity, task_similarity

    for run, status in zip(ledger.plan.runs, statuses, strict=True):
        if status.state != "done" or not METHODS[run.config.adapter.adapter].has_task_embeddings:
            continue
        path = ledger.paths.report / f"similarity-{run.name}.svg"
        plot_similarity(*task_similarity(RunFolder(ledger.folder(run)).adapter), path)
        yield path
