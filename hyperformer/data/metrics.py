"""Metrics of a task, in percent, as the authors computed them.

Answers are compared as text, or first read as numbers (:attr:`Task.answer`);
what is no number becomes -1, so an invalid answer counts as a wrong one.
Where a value is not defined (constant predictions, a NaN in them) it is 0, as
the authors have it. Two cases of theirs are mended: no rows at all is an error
(theirs: NaN), and Pearson's correlation of a single row is 0 (theirs: a crash).
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperformer.errors import DataError

if TYPE_CHECKING:
    from hyperformer.data.tasks.task import Task

Answers = Sequence[Any]


def read_int(text: str) -> int:
    """The number that `text` is, or -1."""
    try:
        return int(text)
    except ValueError:
        return -1


def read_float(text: str) -> float:
    """The number that `text` is ('nan' and 'inf' too), or -1.0."""
    try:
        return float(text)
    except ValueError:
        return -1.0


READERS: dict[str, Callable[[str], Any]] = {"text": str, "int": read_int, "float": read_float}


def accuracy(predictions: Answers, targets: Answers) -> dict[str, float]:
    """Percent of answers that equal the target exactly."""
    return {"acc": 100 * float(np.mean([p == t for p, t in zip(predictions, targets, strict=True)]))}


def f1_score_with_invalid(predictions: Answers, targets: Answers) -> dict[str, float]:
    """F1 of class 1; an answer that is neither 0 nor 1 counts as the wrong one of the two.

    Raffel et al. 2020 count invalid answers so.
    """
    from sklearn.metrics import f1_score

    valid = [p if p in (0, 1) else int(t == 0) for p, t in zip(predictions, targets, strict=True)]
    return {"f1": 100 * float(f1_score(targets, valid, zero_division=0))}


def matthews_corrcoef(predictions: Answers, targets: Answers) -> dict[str, float]:
    """Matthews' correlation; an invalid answer is a class of its own."""
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():  # predictions of one class: 0, which is what is wanted
        warnings.simplefilter("ignore")
        return {"mcc": 100 * float(matthews_corrcoef(targets, predictions))}


def pearson_corrcoef(predictions: Answers, targets: Answers) -> dict[str, float]:
    """Pearson's correlation; 0 where it is not defined."""
    from scipy.stats import pearsonr

    return {"pearson_corrcoef": _correlation(pearsonr, predictions, targets)}


def spearman_corrcoef(predictions: Answers, targets: Answers) -> dict[str, float]:
    """Spearman's rank correlation; 0 where it is not defined."""
    from scipy.stats import spearmanr

    return {"spearman_corrcoef": _correlation(spearmanr, predictions, targets)}


def _correlation(function: Callable[..., Any], predictions: Answers, targets: Answers) -> float:
    if len(targets) < 2:
        return 0.0
    with warnings.catch_warnings():  # constant input: NaN
        warnings.simplefilter("ignore")
        value = 100 * float(function(targets, predictions)[0])
    return 0.0 if math.isnan(value) else value


def bleu(predictions: Answers, targets: Answers) -> dict[str, float]:
    """BLEU of the corpus by sacrebleu, rounded to 4 digits."""
    import sacrebleu

    return {"bleu": round(sacrebleu.corpus_bleu(list(predictions), [list(targets)]).score, 4)}


def rouge(predictions: Answers, targets: Answers) -> dict[str, float]:
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L, with stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds, use_stemmer=True)
    scores = [
        scorer.score(target, prediction) for prediction, target in zip(predictions, targets, strict=True)
    ]
    return {
        kind: round(100 * statistics.fmean(score[kind].fmeasure for score in scores), 4) for kind in kinds
    }


METRICS: dict[str, Callable[[Answers, Answers], dict[str, float]]] = {
    "accuracy": accuracy,
    "f1_score_with_invalid": f1_score_with_invalid,
    "matthews_corrcoef": matthews_corrcoef,
    "pearson_corrcoef": pearson_corrcoef,
    "spearman_corrcoef": spearman_corrcoef,
    "bleu": bleu,
    "rouge": rouge,
}
"""Name in a task's row -> function of (predictions, targets)."""

COLUMNS = {
    "accuracy": ("acc",),
    "f1_score_with_invalid": ("f1",),
    "matthews_corrcoef": ("mcc",),
    "pearson_corrcoef": ("pearson_corrcoef",),
    "spearman_corrcoef": ("spearman_corrcoef",),
    "bleu": ("bleu",),
    "rouge": ("rouge1", "rouge2", "rougeL"),
}
"""The columns that each metric makes."""


def compute_metrics(
    task: Task,
    predictions: Sequence[str],
    targets: Sequence[str],
    *,
    generated_lengths: Sequence[int] | None = None,
) -> dict[str, float]:
    """All metrics of a task, in percent. Space around answers does not count.

    Args:
        predictions: decoded answers, one a row.
        targets: the right answers, in the same order.
        generated_lengths: tokens of each prediction, padding not counted; free-text tasks
            then get `gen_len`, their mean, as the authors report it.

    Raises:
        DataError: no rows, or not as many predictions as targets.
    """
    if not targets or len(predictions) != len(targets):
        raise DataError(
            f"Task {task.name!r}: {len(predictions)} predictions for {len(targets)} targets; "
            "metrics need as many, and at least one"
        )
    read = READERS[task.answer]
    answers, right = [read(text.strip()) for text in predictions], [read(text.strip()) for text in targets]
    values: dict[str, float] = {}
    for metric in task.metrics:
        values |= METRICS[metric](answers, right)
    if task.labels is None and generated_lengths is not None:
        values["gen_len"] = float(np.mean(generated_lengths))
    return values


def average(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over all metric columns of all tasks, `gen_len` too: the authors' average.

    A task with two metrics counts twice. Raises DataError if there is nothing to average.
    """
    values = [value for columns in metrics.values() for value in columns.values()]
    if not values:
        raise DataError("No metrics to average: no task was evaluated")
    return statistics.fmean(values)
