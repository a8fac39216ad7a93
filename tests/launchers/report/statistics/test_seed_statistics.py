"""Intervals and comparisons over seeds, on numbers whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from launchers.report.statistics.seeds import compare_seeds, seed_intervals


def test_intervals_of_the_mean_and_from_five_seeds_on_of_the_interquartile_mean() -> None:
    one, three, five = seed_intervals([[1.0], [1.0, 2.0, 6.0], [1.0, 2.0, 3.0, 4.0, 100.0]])
    assert one is None
    assert three is not None and (three.of, three.estimate) == ("mean", 3.0)
    assert (three.low, three.high) == (1.0, 6.0)  # the range: 3 equal seeds are drawn in 1 of 27 sets
    assert five is not None and (five.of, five.estimate) == ("interquartile mean", 3.0)  # not 22
    assert 1 < five.low < 3 < five.high


def test_intervals_hold_the_truth_as_often_as_the_report_says() -> None:
    """75% of intervals of 3 seeds: the truth lies in the range of 3 seeds in 1 - 2/8 of cases."""
    samples = np.random.default_rng(0).normal(size=(400, 3)).tolist()
    held = np.mean([found is not None and found.low <= 0 <= found.high for found in seed_intervals(samples)])
    assert held == pytest.approx(0.75, abs=3 * (0.75 * 0.25 / 400) ** 0.5)


def test_probability_of_improvement_is_mann_whitneys() -> None:
    ours, theirs = [3.0, 5.0, 5.0, 9.0], [1.0, 5.0, 6.0]
    found = compare_seeds("a", "b", [[value] for value in ours], [[value] for value in theirs])
    assert found.probability == pytest.approx(100 * mannwhitneyu(ours, theirs).statistic / 12)
    assert found.difference == pytest.approx(1.5)
    assert found.interval is not None and found.interval.low < found.probability < found.interval.high


def test_three_seeds_each_cannot_be_significant() -> None:
    found = compare_seeds("a", "b", [[9.0, 9.0]] * 3, [[1.0, 1.0]] * 3)
    assert (found.probability, found.p, found.least_p) == (100.0, pytest.approx(0.1), pytest.approx(0.1))


def test_one_seed_has_no_interval() -> None:
    found = compare_seeds("a", "b", [[9.0, 1.0]], [[1.0, 1.0]])
    assert (found.probability, found.interval, found.p, found.least_p) == (75.0, None, None, 1.0)
