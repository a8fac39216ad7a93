"""What seeds tell of one row of a table, and of two: a seed is one measurement.

scipy is imported where it is needed: that takes a while.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from launchers.report.report_data import Comparison, Interval

if TYPE_CHECKING:
    import numpy as np

FEWEST_FOR_IQM = 5
"""Seeds from which the interquartile mean is taken: it leaves out the best and the worst."""
_RESAMPLES = 1_999
_NUMBERS_AT_ONCE = 2_000_000


def seed_intervals(samples: Sequence[Sequence[float]]) -> list[Interval | None]:
    """For each sample a 95% bootstrap interval of its mean, from 5 seeds on of the interquartile mean.

    Percentile intervals of few seeds are too short: they never leave the range of the seeds. None for one seed.
    """
    import numpy as np
    from scipy.stats import bootstrap, trim_mean

    found: list[Interval | None] = [None] * len(samples)
    for size in {len(sample) for sample in samples if len(sample) > 1}:
        which = [index for index, sample in enumerate(samples) if len(sample) == size]
        values = np.array([samples[index] for index in which])
        is_robust = size >= FEWEST_FOR_IQM

        def centre(sample: np.ndarray, axis: int = -1, robust: bool = is_robust) -> Any:
            return trim_mean(sample, 0.25, axis=axis) if robust else np.mean(sample, axis=axis)

        ends = bootstrap(
            (values,),
            centre,
            axis=-1,
            n_resamples=_RESAMPLES,
            batch=max(1, _NUMBERS_AT_ONCE // values.size),
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        of: Literal["interquartile mean", "mean"] = "interquartile mean" if is_robust else "mean"
        for index, middle, low, high in zip(which, centre(values), ends.low, ends.high, strict=True):
            found[index] = Interval(float(middle), float(low), float(high), of)
    return found


def compare_seeds(
    better: str, other: str, ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]
) -> Comparison:
    """Compare two rows by their seeds.

    Args:
        ours, theirs: of each seed its score on each task, percent; the same tasks in all.
    """
    import numpy as np
    from scipy.stats import bootstrap, permutation_test

    one, two = np.array(ours), np.array(theirs)
    # Seed i wins against seed j on a share of the tasks; a tie is half a win (Agarwal et al. 2021).
    wins = 100 * np.mean(np.sign(one[:, None] - two[None]) / 2 + 0.5, axis=2)
    difference, least = float(one.mean() - two.mean()), 2 / math.comb(len(one) + len(two), len(one))
    if min(wins.shape) < 2:
        return Comparison(better, other, float(wins.mean()), None, difference, None, min(1.0, least))
    ends = bootstrap(
        [np.arange(count, dtype=float) for count in wins.shape],
        lambda i, j, axis=-1: wins[i.astype(int)[..., :, None], j.astype(int)[..., None, :]].mean((-2, -1)),
        n_resamples=_RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    interval = Interval(float(wins.mean()), float(ends.low), float(ends.high), "probability")
    tested = permutation_test(
        (one.mean(axis=1), two.mean(axis=1)),
        lambda x, y, axis=-1: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return Comparison(better, other, float(wins.mean()), interval, difference, float(tested.pvalue), least)
