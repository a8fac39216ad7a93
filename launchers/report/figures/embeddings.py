"""Task embeddings of hypernetworks in two dimensions (Figure 3 of the paper). torch is imported when one is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hyperformer.errors import HyperformerError
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.methods import METHODS
from launchers.report.report_data import ReportData


@dataclass(frozen=True)
class EmbeddingMap:
    """`points`: of each task; `explained`: share of the variance along each of the two axes."""

    run: str
    tasks: tuple[str, ...]
    points: tuple[tuple[float, float], ...]
    explained: tuple[float, float]


def embedding_maps(data: ReportData) -> Iterator[EmbeddingMap]:
    """Of the first finished run of each row of the table that has a hypernetwork of three tasks or more."""
    for row in data.tables[0].rows:
        for entry in row.runs:
            config = entry.run.config
            if entry.result is None or not METHODS[config.adapter.adapter].has_task_embeddings:
                continue
            if len(config.data.tasks) > 2:
                yield from _map(entry.run.name, RunFolder(entry.folder))
                break


def _map(name: str, folder: RunFolder) -> Iterator[EmbeddingMap]:
    import numpy as np

    from hyperformer.commands.similarity import task_embeddings

    try:
        tasks, embeddings = task_embeddings(folder.adapter)
    except HyperformerError:  # `report --plots` and `predict` say what is wrong with an adapter
        return
    centred = embeddings.double().numpy()
    centred = centred - centred.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    variance = sizes**2
    total = float(variance.sum())
    if total == 0 or len(sizes) < 2:
        return
    points = left[:, :2] * sizes[:2]
    first, second = (float(value) / total for value in variance[:2])
    yield EmbeddingMap(name, tuple(tasks), tuple((float(x), float(y)) for x, y in points), (first, second))
