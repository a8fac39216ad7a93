"""How often the report's test marks a difference between two equal variants, on made-up answers.

    python benchmarks/false_alarms.py [PAIRS]

A variant's models are right on a row with a chance that depends on the row, which both variants share, and on the seed.
"""

from __future__ import annotations

import sys

import numpy as np

from launchers.report.statistics.paired import paired_bootstrap
from launchers.report.statistics.resampled_metrics import RESAMPLED, Array

# Metric, test rows, seeds, and the spread between seeds in logits: 0.05 is 0.75 points of accuracy, 0.2 is 3.
CASES = [
    ("accuracy", 139, 1, 0.0),
    ("accuracy", 2000, 1, 0.0),
    ("f1_score_with_invalid", 139, 1, 0.0),
    ("matthews_corrcoef", 139, 1, 0.0),
    ("pearson_corrcoef", 139, 1, 0.0),
    ("spearman_corrcoef", 139, 1, 0.0),
    ("accuracy", 139, 3, 0.0),
    ("accuracy", 2000, 3, 0.0),
    ("accuracy", 2000, 3, 0.05),
    ("accuracy", 2000, 3, 0.2),
    ("accuracy", 2000, 5, 0.2),
]


def equal_variants(case: tuple[str, int, int, float], random: np.random.Generator) -> list[list[Array]]:
    """The features of the models of two variants that are equally good."""
    name, rows, seeds, spread = case
    metric = RESAMPLED[name]
    if metric is RESAMPLED["pearson_corrcoef"] or metric is RESAMPLED["spearman_corrcoef"]:
        right = random.uniform(0, 5, rows).round(1)
        common = right + random.normal(0, 0.8, rows)
        given = [[common + random.normal(0, 0.6, rows) for _ in range(seeds)] for _ in range(2)]
    else:
        right, ease = random.integers(0, 2, rows), random.normal(1.2, 1.5, rows)
        chances = 1 / (1 + np.exp(-(ease + random.normal(0, spread, (2, seeds, 1)))))
        given = np.where(random.random(chances.shape) < chances, right, 1 - right)
    return [[metric.features(one.tolist(), right.tolist(), [0, 1]) for one in models] for models in given]


def main(pairs: int) -> None:
    print("| metric | test rows | seeds | spread | false alarms |\n| --- | ---: | ---: | ---: | ---: |")
    for case in CASES:
        random = np.random.default_rng(0)
        name, rows, seeds, spread = case
        alarms = 0
        for _ in range(pairs):
            result = paired_bootstrap(RESAMPLED[name], *equal_variants(case, random))
            alarms += result is not None and result.p < 0.05
        print(f"| {name} | {rows} | {seeds} | {spread} | {100 * alarms / pairs:.1f}% |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
