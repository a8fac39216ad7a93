"""Tests between rows, on made-up answers whose truth is known."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap, t

from hyperformer.data.metrics import METRICS
from launchers.report.statistics.paired import holm, paired_bootstrap, standard_error
from launchers.report.statistics.resampled_metrics import RESAMPLED, Array

# Possible answers and targets of each metric; -1 and 7 are invalid.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "accuracy": (["a", "b", "x"], ["a", "b"]),
    "exact_match": (["a b", "a  b", "c"], ["a b", "c"]),
    "f1_score_with_invalid": ([0, 1, -1, 7], [0, 1]),
    "macro_f1": ([0, 1, 2, -1], [0, 1, 2]),
    "macro_f1_all": ([0, 1, 2, -1], [0, 1, 2]),
    "matthews_corrcoef": ([0, 1, 2, -1], [0, 1, 2]),
    "pearson_corrcoef": ([0.0, 0.5, 1.0, 2.4, -1.0], [0.0, 1.2, 3.3]),
    "spearman_corrcoef": ([0.0, 0.5, 1.0, 2.4, -1.0], [0.0, 1.2, 3.3]),
}


def test_every_metric_of_short_answers_can_be_resampled() -> None:
    with_references = {name for name, metric in METRICS.items() if metric.needs}
    assert METRICS.keys() - RESAMPLED.keys() == {"bleu", "rouge", *with_references}
    assert all(len(METRICS[name].columns) == 1 for name in RESAMPLED)


@pytest.mark.parametrize("name", RESAMPLED)
@pytest.mark.parametrize("odd", [None, "constant", "one class", "nan", "inf"])
def test_weights_give_the_metric_of_the_repeated_rows(name: str, odd: str | None) -> None:
    random, metric = np.random.default_rng(3), METRICS[name]
    for rows in (2, 9, 30):
        given, right = [[values[i] for i in random.integers(0, len(values), rows)] for values in VALUES[name]]
        given = [given[0]] * rows if odd == "constant" else given
        right = [right[0]] * rows if odd == "one class" else right
        if odd in ("nan", "inf") and metric.answers[0] == "float":
            given[0] = float(odd)
        labels = sorted(set(VALUES[name][1]))
        weights = random.multinomial(rows, np.full(rows, 1 / rows), size=8).astype(float)
        found = RESAMPLED[name].values(weights, RESAMPLED[name].features(given, right, labels))
        for value, one in zip(found, weights.astype(int), strict=True):
            answers, targets = [
                np.repeat(np.array(each, dtype=object), one).tolist() for each in (given, right)
            ]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = metric.compute(answers, targets, *([labels] if metric.by_label else []))
            assert value == pytest.approx(*expected.values(), abs=1e-9)


def hits(rows: int, seeds: int, random: np.random.Generator, spread: float = 0.0) -> list[Array]:
    """Right and wrong answers of a variant that is right on 75% of rows; its seeds differ by `spread` points."""
    shares = 0.75 + random.normal(0, spread / 100, seeds)
    return [(random.random((rows, 1)) < share).astype(float) for share in shares]


@pytest.mark.parametrize(
    ("rows", "seeds", "spread"),
    [(139, 1, 0.0), (139, 3, 0.0), (1000, 3, 1.0), (2000, 3, 3.0)],
)
def test_false_alarms_among_pairs_of_equal_variants(rows: int, seeds: int, spread: float) -> None:
    """At most the stated 5%, within three standard errors; with one seed it is 5%, else somewhat less."""
    random, pairs = np.random.default_rng(0), 1000 if seeds == 1 else 100
    results = [
        paired_bootstrap(
            RESAMPLED["accuracy"], hits(rows, seeds, random, spread), hits(rows, seeds, random, spread), 199
        )
        for _ in range(pairs)
    ]
    alarms = np.mean([result is not None and result.p < 0.05 for result in results])
    margin = 3 * (0.05 * 0.95 / pairs) ** 0.5
    assert (0.05 - margin if seeds == 1 else 0) <= alarms <= 0.05 + margin


def test_marks_of_a_table_are_corrected_for_the_choice_of_its_best_row() -> None:
    """Six equal rows: in 5% of tables, or fewer, any row differs from the best one."""
    random, tables, alarms = np.random.default_rng(1), 200, 0
    for _ in range(tables):
        rows = sorted((hits(300, 1, random) for _ in range(6)), key=lambda row: -row[0].mean())
        found = [paired_bootstrap(RESAMPLED["accuracy"], row, rows[0], 199) for row in rows[1:]]
        alarms += min(holm([one.p for one in found if one is not None], 15)) < 0.05
    assert alarms / tables <= 0.05 + 3 * (0.05 * 0.95 / tables) ** 0.5


def test_a_true_difference_is_found_and_in_its_interval() -> None:
    random = np.random.default_rng(2)
    better, worse = ([(random.random((2000, 1)) < share).astype(float)] for share in (0.8, 0.7))
    result = paired_bootstrap(RESAMPLED["accuracy"], worse, better)
    assert result is not None and result.p < 1e-6 and result.low < -10 < result.high < 0


def test_the_error_is_that_of_scipys_paired_bootstrap() -> None:
    random = np.random.default_rng(4)
    one, other = (hits(200, 1, random)[0] for _ in range(2))
    theirs = bootstrap(
        (one[:, 0], other[:, 0]),
        lambda x, y, axis=-1: 100 * (x.mean(axis=axis) - y.mean(axis=axis)),
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    ours = paired_bootstrap(RESAMPLED["accuracy"], [one], [other], 4000)
    assert ours is not None and ours.value == pytest.approx(100 * (one.mean() - other.mean()))
    assert ours.high - ours.low == pytest.approx(2 * t.ppf(0.975, 199) * theirs.standard_error, rel=0.04)


def test_too_few_rows_tell_nothing() -> None:
    right, wrong = np.ones((1, 1)), np.zeros((1, 1))
    assert paired_bootstrap(RESAMPLED["accuracy"], [right], [wrong]) is None
    two = paired_bootstrap(RESAMPLED["accuracy"], [np.ones((2, 1))], [np.zeros((2, 1))])
    assert two is not None and (two.value, two.p) == (100.0, 0.5)
    equal = paired_bootstrap(RESAMPLED["accuracy"], [np.ones((9, 1))], [np.ones((9, 1))])
    assert equal is not None and equal.p == 1.0


def test_standard_error_of_half_of_rtes_validation_rows() -> None:
    random = np.random.default_rng(5)
    found = standard_error(RESAMPLED["accuracy"], hits(139, 1, random)[0])
    assert found == pytest.approx(3.7, abs=0.3)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03], 3) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, 0.5], 10) == pytest.approx([0.1, 1.0])
    assert holm([], 0) == []
