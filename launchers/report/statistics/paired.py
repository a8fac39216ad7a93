"""Do two rows of a table differ, on the test rows that both answered? A paired bootstrap over test rows.

Both are scored on the same resampled test sets, so that what is hard for both cancels out (Koehn 2004, "Statistical
significance tests for machine translation evaluation"). That gives the variance that comes from the choice of test
rows. Other seeds would give other models: where a row of the table has several seeds, the variance between them is
added. Without it, two equal variants differ "significantly" on any large test set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from launchers.report.statistics.resampled_metrics import Array, ResampledMetric

RESAMPLES = 999
_WEIGHTS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class PairedResult:
    """A table row less another one, in percentage points: observed, its 95% interval, and the two-sided p."""

    value: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    metric: ResampledMetric, one: Sequence[Array], other: Sequence[Array], resamples: int = RESAMPLES
) -> PairedResult | None:
    """Compare the mean metric of some models with that of others, by Student's t of their difference.

    Args:
        one, other: of each model (seed) the features of all test rows (:class:`ResampledMetric`), in the same order.
        resamples: resampled test sets.

    Returns:
        None for a single test row, which tells nothing.
    """
    from scipy.stats import t as students_t

    kinds, counts = np.unique(np.hstack([*one, *other]), axis=0, return_counts=True)
    ends = np.cumsum([features.shape[1] for features in (*one, *other)])
    models = np.split(kinds, ends[:-1], axis=1)
    rows = int(counts.sum())
    if rows < 2:
        return None
    observed = _values(metric, models, counts[None].astype(float))[:, 0]
    drawn = np.hstack([_values(metric, models, weights) for weights in resampled(counts, resamples)])
    sides = slice(0, len(one)), slice(len(one), None)
    value = float(observed[sides[0]].mean() - observed[sides[1]].mean())
    differences = drawn[sides[0]].mean(axis=0) - drawn[sides[1]].mean(axis=0)
    rows_variance = float(differences.var(ddof=1)) * rows / (rows - 1)
    seeds = [_Seeds.of(observed[side], drawn[side]) for side in sides]
    common = max(0.0, rows_variance - sum(side.noise for side in seeds))
    between = sum(side.variance for side in seeds), sum(side.freedom for side in seeds)
    parts = [(common, rows - 1), between]
    variance = sum(part for part, _ in parts)
    if max(variance, rows_variance) == 0:  # every row says the same: as many tosses of a coin
        return PairedResult(value, value, value, 1.0 if value == 0 else min(1.0, 2.0 * 0.5**rows))
    # Welch and Satterthwaite: the degrees of freedom of a sum of variances.
    squares = sum(part**2 / freedom for part, freedom in parts if part > 0)
    freedom = variance**2 / squares if squares else rows - 1
    # Seeds that agree by chance do not make the test rows more telling than they are.
    error = max(variance, rows_variance) ** 0.5
    half = float(students_t.ppf(0.975, freedom)) * error
    p = 2 * float(students_t.sf(abs(value) / error, freedom))
    return PairedResult(value, value - half, value + half, p)


@dataclass(frozen=True)
class _Seeds:
    """What seeds add to the variance of their mean.

    Attributes:
        variance: of the mean, from the spread between seeds; 0 for a single one, of which no spread is known.
        noise: the part of it that the choice of test rows explains, and that is in the rows' variance too.
    """

    variance: float
    noise: float
    freedom: int

    @classmethod
    def of(cls, observed: Array, drawn: Array) -> _Seeds:
        """From the metric of each seed, and on each resampled test set, (seeds, sets)."""
        count = len(observed)
        if count < 2:
            return cls(0.0, 0.0, 0)
        apart = float((drawn - drawn.mean(axis=0)).var(axis=1).mean()) * count / (count - 1)
        return cls(float(observed.var(ddof=1)) / count, apart / count, count - 1)


def _values(metric: ResampledMetric, models: Sequence[Array], weights: Array) -> Array:
    return np.array([metric.values(weights, features) for features in models])


def standard_error(metric: ResampledMetric, features: Array) -> float:
    """Of one model's metric on other test rows of the same kind, in percentage points."""
    kinds, counts = np.unique(features, axis=0, return_counts=True)
    drawn = np.concatenate([metric.values(weights, kinds) for weights in resampled(counts, RESAMPLES)])
    return float(drawn.std(ddof=1))


def resampled(counts: np.ndarray, resamples: int) -> Iterator[Array]:
    """Weights of kinds of rows in resampled test sets, (sets, kinds), a batch at a time; always the same ones."""
    random = np.random.default_rng(0)
    batch = max(1, _WEIGHTS_AT_ONCE // len(counts))
    for start in range(0, resamples, batch):
        size = min(batch, resamples - start)
        yield random.multinomial(counts.sum(), counts / counts.sum(), size=size).astype(float)


def holm(ps: Sequence[float], comparisons: int) -> list[float]:
    """Holm's corrected p-values, in the order of `ps`.

    Args:
        comparisons: how many there are, tested or not. Looking for the best of k rows compares all pairs, so all
            k (k - 1) / 2 count, though only those with the best are tested.
    """
    corrected, least = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda each: ps[each])):
        least = max(least, min(1.0, (comparisons - rank) * ps[index]))
        corrected[index] = least
    return corrected
