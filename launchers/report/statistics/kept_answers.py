"""The answers that the runs of a table kept, as far as tests between its rows can use them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hyperformer.errors import HyperformerError, clip
from launchers.report.report_data import Column, Row, Table
from launchers.report.results import RunResult

if TYPE_CHECKING:
    from launchers.report.statistics.resampled_metrics import Array

_EQUAL = 1e-6
"""Percent; answers give the metric of the result if they differ by less: sums in another order round differently."""


@dataclass
class KeptAnswers:
    """The answers of a table's runs to one task.

    Attributes:
        features: folder of the run (those of two sweeps may have one signature) -> metric -> features
            (:mod:`.statistics.resampled_metrics`).
        faults: why answers cannot be used -> names of the runs.
    """

    features: dict[Path, Mapping[str, Array]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def of_row(self, row: Row, column: Column) -> list[Array]:
        """The features of each run that a cell is made of; [] if those of a run are missing."""
        task, metric = column
        found = []
        for entry in row.runs:
            if math.isfinite(entry.metrics("test").get(task, {}).get(metric, math.nan)):
                features = self.features.get(entry.folder, {}).get(metric)
                if features is None:
                    return []
                found.append(features)
        return found


def read_kept(table: Table, task: str) -> KeptAnswers:
    """Read the answers to the test rows of a task. Runs are compared only if they answered the same rows."""
    kept = KeptAnswers()
    first: tuple[str, list[tuple[str, str]]] | None = None
    for entry in [entry for row in table.rows for entry in row.runs]:
        if not entry.metrics("test").get(task):
            continue
        try:
            rows, features = _read(entry, task)
            if first is not None and rows != first[1]:
                raise HyperformerError(f"its test rows are not those of {first[0]}")
        except HyperformerError as error:
            kept.faults.setdefault(clip(str(error), 200), []).append(entry.run.name)
            continue
        first = first or (entry.run.name, rows)
        kept.features[entry.folder] = features
    return kept


def _read(entry: RunResult, task: str) -> tuple[list[tuple[str, str]], Mapping[str, Array]]:
    """The rows (hash and right answer), and the features of the answers.

    Raises:
        HyperformerError: there are none, or they are not those of the result.
    """
    from hyperformer.answers.files import read_answers
    from launchers.report.statistics.resampled_metrics import features_of

    if not (entry.result or {}).get("answers"):
        raise HyperformerError("it kept no answers, being of an earlier version")
    answers = read_answers(entry.folder, "test", task)
    features = features_of(answers.task, answers.scored, answers.targets)
    wrong = list(_differing(features, entry.metrics("test")[task]))
    if wrong:
        raise HyperformerError(f"its answers give {' and '.join(wrong)}")
    return list(zip(answers.hashes, answers.targets, strict=True)), features


def _differing(features: Mapping[str, Array], metrics: Mapping[str, float]) -> Iterator[str]:
    """The metrics that are not those of the result."""
    import numpy as np

    from launchers.report.statistics.resampled_metrics import BY_COLUMN

    for metric, found in features.items():
        value = float(BY_COLUMN[metric].values(np.ones((1, len(found))), found)[0])
        if abs(value - metrics.get(metric, value)) > _EQUAL:
            yield f"{metric} {value:.4f}, not {metrics[metric]:.4f} as its result says"
