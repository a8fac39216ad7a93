"""The metrics of :mod:`hyperformer.data.metrics` on thousands of resampled test sets at once.

A resampled set is a weight for each row: how often it was drawn. Each metric turns rows into a few numbers (hits,
true positives, products), and sums of these, weighted, into its value. Rows with equal numbers are one kind of row,
so that a test set of 40,000 rows needs weights for a few dozen kinds only.

BLEU and ROUGE are not here: their scores of single sentences take too long for a report. Nor are the metrics that read
references: the rows of a question would have to be drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyperformer.data.metrics import METRICS, READERS
from hyperformer.data.tasks import Task

Array = NDArray[np.float64]
Answers = Sequence[Any]


@dataclass(frozen=True)
class ResampledMetric:
    """A metric as a function of weights.

    Attributes:
        features: (answers, targets, labels), all as the metric reads them -> numbers of each row, (rows, features).
        values: weights (sets, rows) and features -> percent, (sets,).
    """

    features: Callable[[Answers, Answers, Answers], Array]
    values: Callable[[Array, Array], Array]


def _columns(*columns: Sequence[Any] | Array) -> Array:
    return np.array(columns, dtype=float).T


def _equal(answers: Answers, targets: Answers, labels: Answers) -> Array:
    return _columns([answer == target for answer, target in zip(answers, targets, strict=True)])


def _equal_words(answers: Answers, targets: Answers, labels: Answers) -> Array:
    return _equal([text.split() for text in answers], [text.split() for text in targets], labels)


def _share(weights: Array, features: Array) -> Array:
    return 100 * (weights @ features[:, 0]) / weights.sum(axis=1)


def _classes(answers: Answers, targets: Answers, classes: Answers) -> Array:
    """For each class: whether it is the answer, the target, and both."""
    given = np.array([[answer == one for one in classes] for answer in answers], dtype=float)
    right = np.array([[target == one for one in classes] for target in targets], dtype=float)
    return np.hstack([given, right, given * right])


def _binary_classes(answers: Answers, targets: Answers, labels: Answers) -> Array:
    valid = [
        answer if answer in (0, 1) else int(target == 0)
        for answer, target in zip(answers, targets, strict=True)
    ]
    return _classes(valid, targets, [1])


def _f1_of_classes(weights: Array, features: Array) -> Array:
    """The F1 of each class; NaN if it does not occur."""
    given, right, both = np.split(weights @ features, 3, axis=1)
    return np.divide(2 * both, given + right, out=np.full_like(both, np.nan), where=given + right > 0)


def _mean_f1(weights: Array, features: Array) -> Array:
    """Over the classes that occur; 0 if none does."""
    scores = _f1_of_classes(weights, features)
    return 100 * np.nansum(scores, axis=1) / np.maximum((~np.isnan(scores)).sum(axis=1), 1)


def _mean_f1_of_all(weights: Array, features: Array) -> Array:
    return 100 * np.nan_to_num(_f1_of_classes(weights, features)).mean(axis=1)


def _all_classes(answers: Answers, targets: Answers, labels: Answers) -> Array:
    """Invalid answers are classes of their own."""
    return _classes(answers, targets, sorted({*answers, *targets}))


def _matthews(weights: Array, features: Array) -> Array:
    given, right, both = np.split(weights @ features, 3, axis=1)
    count = weights.sum(axis=1)
    covariance = both.sum(axis=1) * count - (given * right).sum(axis=1)
    spread = (count**2 - (given**2).sum(axis=1)) * (count**2 - (right**2).sum(axis=1))
    return 100 * np.divide(covariance, np.sqrt(spread), out=np.zeros_like(covariance), where=spread > 0)


def _pairs(answers: Answers, targets: Answers, labels: Answers) -> Array:
    return _columns(answers, targets)


def _pearson(weights: Array, features: Array) -> Array:
    usable: Any = np.isfinite(features).all(axis=1)
    values = np.where(usable[:, None], features, 0.0)
    found = _correlation(weights, np.broadcast_to(values.T[:, None], (2, *weights.shape)))
    return np.where(weights @ ~usable > 0, 0.0, found)  # not defined, which counts as 0


def _spearman(weights: Array, features: Array) -> Array:
    usable = ~np.isnan(features).any(axis=1)
    ranks = np.stack([_ranks(weights, np.where(usable, column, 0.0)) for column in features.T])
    return np.where(weights @ ~usable > 0, 0.0, _correlation(weights, ranks))


def _ranks(weights: Array, column: Array) -> Array:
    """The rank of each row in each set; equal values share the mean of their ranks."""
    _, place = np.unique(column, return_inverse=True)
    held = np.zeros((len(weights), place.max() + 1))
    for row, value in enumerate(place):
        held[:, value] += weights[:, row]
    return (np.cumsum(held, axis=1) - held / 2)[:, place]


def _correlation(weights: Array, pair: Array) -> Array:
    """Pearson's correlation of two variables, (2, sets, rows), in percent; 0 where one of them is constant."""
    count = weights.sum(axis=1)
    centred = pair - ((pair * weights).sum(axis=2) / count)[..., None]
    x, y = centred
    variances = (weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1)
    scale = (np.abs(pair).max(axis=2) ** 2).prod(axis=0) * count**2
    defined = variances > 1e-24 * np.maximum(scale, 1e-300)
    covariance = (weights * x * y).sum(axis=1)
    return 100 * np.divide(covariance, np.sqrt(variances), out=np.zeros_like(covariance), where=defined)


RESAMPLED = {
    "accuracy": ResampledMetric(_equal, _share),
    "exact_match": ResampledMetric(_equal_words, _share),
    "f1_score_with_invalid": ResampledMetric(_binary_classes, _mean_f1),
    "macro_f1": ResampledMetric(_classes, _mean_f1),
    "macro_f1_all": ResampledMetric(_classes, _mean_f1_of_all),
    "matthews_corrcoef": ResampledMetric(_all_classes, _matthews),
    "pearson_corrcoef": ResampledMetric(_pairs, _pearson),
    "spearman_corrcoef": ResampledMetric(_pairs, _spearman),
}
"""By the name of the metric in :data:`hyperformer.data.metrics.METRICS`."""
BY_COLUMN = {METRICS[name].columns[0]: metric for name, metric in RESAMPLED.items()}
"""By the column of the table; none of these metrics has several."""


def features_of(task: Task, answers: Answers, targets: Sequence[str]) -> dict[str, Array]:
    """The features of one model's answers for each column of the task's metrics that can be resampled.

    Args:
        answers: as the metrics read them; `targets`: as text.
    """
    read = READERS[task.answer]
    right, labels = [read(text.strip()) for text in targets], [read(label) for label in task.labels or ()]
    return {
        METRICS[name].columns[0]: RESAMPLED[name].features(answers, right, labels)
        for name in task.metrics
        if name in RESAMPLED
    }
