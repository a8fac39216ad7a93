"""What seeds tell of a row of the table, and of two rows: a seed is one measurement.

scipy is imported when it is needed: it takes a while.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from launchers.report.report_data import Comparison, Interval

FEWEST_FOR_IQM = 5
"""Seeds from which the interquartile mean says more than the mean: it leaves out the best and the worst."""
_RESAMPLES = 9_999
_EXACT = 10_000
"""Permutations up to which all are tried."""


def seed_interval(values: Sequence[float]) -> Interval | None:
    """A 95% percentile bootstrap interval of the mean, from 5 seeds on of the interquartile mean; None for one seed.

    With few seeds it is too short: it never leaves the range of the seeds.
    """
    import numpy as np
    from scipy.stats import bootstrap, trim_mean

    if len(values) < 2:
        return None
    is_robust = len(values) >= FEWEST_FOR_IQM

    def centre(sample: np.ndarray, axis: int = -1) -> np.ndarray:
        return trim_mean(sample, 0.25, axis=axis) if is_robust else np.mean(sample, axis=axis)

    found = bootstrap(
        (list(values),), centre, n_resamples=_RESAMPLES, method="percentile", vectorized=True, rng=np.random.default_rng(0)
    ).confidence_interval  # fmt: skip
    of = "interquartile mean" if is_robust else "mean"
    return Interval(float(centre(np.array(values))), float(found.low), float(found.high), of)


def compare_seeds(
    better: str, other: str, ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]
) -> Comparison:
    """Compare two rows by their seeds.

    Args:
        ours, theirs: of each seed its score on each task, percent; the same tasks in all.
    """
    import numpy as np
    from scipy.stats import bootstrap, permutation_test

    mine, yours = ([list(seed.values()) for seed in seeds] for seeds in (ours, theirs))
    # Wins of seed i over seed j, a tie being half a win, over tasks (Agarwal et al. 2021).
    wins = np.mean(np.sign(np.array(mine)[:, None] - np.array(yours)[None]) / 2 + 0.5, axis=2) * 100

    def probability(one: np.ndarray, two: np.ndarray, axis: int = -1) -> np.ndarray:
        one, two = one.astype(int), two.astype(int)
        return wins[one[..., :, None], two[..., None, :]].mean(axis=(-2, -1))

    seeds = [np.arange(len(mine)), np.arange(len(yours))]
    found = bootstrap(
        seeds, probability, n_resamples=_RESAMPLES, method="percentile", vectorized=True, rng=np.random.default_rng(0)
    ).confidence_interval if min(map(len, seeds)) > 1 else None  # fmt: skip
    raise NotImplementedError
