"""Metrics of a task, in percent. The authors' seven are computed as they computed them.

Answers are compared as text, or first read as numbers (:attr:`Task.answer`). Text that is
no number becomes -1, so an invalid answer counts as a wrong one. Where a value is not
defined (constant predictions, a NaN in them) it is 0, as the authors have it. We fix two
cases of theirs: no rows at all is an error (theirs: NaN), and Pearson's correlation of a
single row is 0 (theirs: a crash).
"""

from __future__ import annotations

import math
import statistics
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hyperformer.data import question_metrics
from hyperformer.data.question_metrics import Reference
from hyperformer.errors import DataError

if TYPE_CHECKING:
    from hyperformer.data.tasks.task import Task

Answers = Sequence[Any]
ROUGE = ("rouge1", "rouge2", "rougeL")
# Scripts that put no blanks between words.
_NO_BLANKS = "".join(
    rf"\p{{Script={name}}}" for name in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
)


def read_int(text: str) -> int:
    """The number that `text` is, or -1; numpy's metrics know no number of more than 64 bits."""
    try:
        number = int(text)
    except ValueError:
        return -1
    return number if -(2**63) <= number < 2**63 else -1


def read_float(text: str) -> float:
    """The number that `text` is ('nan' and 'inf' too), or -1.0."""
    try:
        return float(text)
    except ValueError:
        return -1.0


READERS: dict[str, Callable[[str], Any]] = {"text": str, "int": read_int, "float": read_float}
INVALID = -1
"""What an answer is read as that is not a number where there must be one."""


def can_be_right(kind: str, text: str) -> bool:
    """Whether `text` can be the right answer of a row: a finite number where answers are read as numbers.

    Args:
        kind: :attr:`Task.answer`.
    """
    if kind == "text":
        return True
    number = READERS[kind](text)
    return number != INVALID and math.isfinite(number)


def accuracy(predictions: Answers, targets: Answers) -> dict[str, float]:
    """Percent of answers that equal the target exactly."""
    return {"acc": _percent_equal(predictions, targets)}


def exact_match(predictions: Answers, targets: Answers) -> dict[str, float]:
    """Percent of texts that equal the target, whatever the blanks between their words."""
    words = [[" ".join(text.split()) for text in texts] for texts in (predictions, targets)]
    return {"exact_match": _percent_equal(*words)}


def _percent_equal(predictions: Answers, targets: Answers) -> float:
    import numpy as np  # too slow for the commands that only plan

    return 100 * float(np.mean([p == t for p, t in zip(predictions, targets, strict=True)]))


def f1_score_with_invalid(predictions: Answers, targets: Answers) -> dict[str, float]:
    """F1 of class 1; an answer that is neither 0 nor 1 counts as the wrong one of the two.

    Raffel et al. 2020 count invalid answers so.
    """
    from sklearn.metrics import f1_score

    valid = [p if p in (0, 1) else int(t == 0) for p, t in zip(predictions, targets, strict=True)]
    return {"f1": 100 * float(f1_score(targets, valid, zero_division=0))}


def macro_f1(predictions: Answers, targets: Answers, labels: Answers) -> dict[str, float]:
    """Mean F1 over the task's labels that occur, in targets or answers; an invalid answer is a miss."""
    from sklearn.metrics import f1_score

    occurring = sorted(set(labels) & {*predictions, *targets})
    value = f1_score(targets, predictions, labels=occurring, average="macro", zero_division=0)
    return {"macro_f1": 100 * float(value)}


def macro_f1_all(predictions: Answers, targets: Answers, labels: Answers) -> dict[str, float]:
    """Mean F1 over all of the task's labels, as SuperGLUE and T5 have it for CB: a label that does not occur has 0."""
    from sklearn.metrics import f1_score

    value = f1_score(targets, predictions, labels=labels, average="macro", zero_division=0)
    return {"macro_f1_all": 100 * float(value)}


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
    """BLEU of the corpus by sacrebleu (13a), rounded to 4 digits."""
    import sacrebleu

    return {"bleu": round(sacrebleu.corpus_bleu(list(predictions), [list(targets)]).score, 4)}


def rouge(predictions: Answers, targets: Answers) -> dict[str, float]:
    """Mean F-measure of ROUGE-1, ROUGE-2 and ROUGE-L, with stemming; words of any script count."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([*ROUGE], tokenizer=_Words())
    scores = [
        scorer.score(target, prediction) for prediction, target in zip(predictions, targets, strict=True)
    ]
    return {
        kind: round(100 * statistics.fmean(score[kind].fmeasure for score in scores), 4) for kind in ROUGE
    }


class _Words:
    """The words of a text, for ROUGE. Of ASCII text they are those of rouge_score's own tokenizer.

    That one knows ASCII letters only: ROUGE of Hindi or Chinese is 0, and "é" is not a letter.
    In scripts that put no blanks between words each character is a word.
    """

    def __init__(self) -> None:
        import regex
        from nltk.stem.porter import PorterStemmer

        letters = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{_NO_BLANKS}]]"
        self._find = regex.compile(rf"(?V1)[{_NO_BLANKS}]\p{{M}}*|{letters}+").findall
        self._stem = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        words = self._find(unicodedata.normalize("NFKC", text).lower())
        return [self._stem(word) if len(word) > 3 and word.isascii() else word for word in words]


def has_words_without_blanks(text: str) -> bool:
    """Whether some of the text is Chinese, Thai or the like, which put no blanks between words."""
    import regex

    return regex.search(f"[{_NO_BLANKS}]", text) is not None


@dataclass(frozen=True)
class Metric:
    """A metric, and which tasks it can measure.

    Attributes:
        compute: function of (predictions, targets), perhaps also of the task's labels, and of references.
        columns: the names of its values; no two metrics share one.
        answers: kinds of :attr:`Task.answer` that it can read.
        labels: 'any': free text too; 'some': the task has labels; 'two': two of them; 'binary': they are 0 and 1.
        by_label: whether `compute` takes the labels.
        needs: the field of :class:`Task` that says what is in the references; '': it takes none.
        judges_target: a row without right answers is one whose target is wrong.
    """

    compute: Callable[..., dict[str, float]]
    columns: tuple[str, ...]
    answers: tuple[str, ...]
    labels: Literal["any", "some", "two", "binary"] = "any"
    by_label: bool = False
    needs: Literal["", "group", "accepted"] = ""
    judges_target: bool = False

    def score(
        self, predictions: Answers, targets: Answers, labels: Answers, references: Sequence[Reference]
    ) -> dict[str, float]:
        """The values of its columns, in percent."""
        more = [*([labels] if self.by_label else []), *([references] if self.needs else [])]
        return self.compute(predictions, targets, *more)


METRICS = {
    "accuracy": Metric(accuracy, ("acc",), ("text", "int", "float")),
    "exact_match": Metric(exact_match, ("exact_match",), ("text",)),
    "f1_score_with_invalid": Metric(f1_score_with_invalid, ("f1",), ("int",), "binary"),
    "macro_f1": Metric(macro_f1, ("macro_f1",), ("text", "int"), "some", by_label=True),
    "macro_f1_all": Metric(macro_f1_all, ("macro_f1_all",), ("text", "int"), "some", by_label=True),
    "matthews_corrcoef": Metric(matthews_corrcoef, ("mcc",), ("text", "int"), "some"),
    "pearson_corrcoef": Metric(pearson_corrcoef, ("pearson_corrcoef",), ("float", "int")),
    "spearman_corrcoef": Metric(spearman_corrcoef, ("spearman_corrcoef",), ("float", "int")),
    "bleu": Metric(bleu, ("bleu",), ("text",)),
    "rouge": Metric(rouge, ROUGE, ("text",)),
    "multirc": Metric(
        question_metrics.multirc, ("f1a", "question_em"), ("text",), "two", by_label=True, needs="group"
    ),
    "squad": Metric(question_metrics.squad, ("em", "word_f1"), ("text",), needs="accepted"),
    "referent": Metric(
        question_metrics.referent, ("referent_acc",), ("text",), needs="accepted", judges_target=True
    ),
}
"""Every metric by the name that a task's row has for it."""


def compute_metrics(
    task: Task,
    predictions: Sequence[str],
    targets: Sequence[str],
    *,
    references: Sequence[Reference] = (),
) -> dict[str, float]:
    """All metrics of a task, in percent. Space around answers does not count.

    Args:
        predictions: decoded answers, one for each row.
        targets: the right answers, in the same order.
        references: what some metrics read beside the targets, in the same order.

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
    labels = [read(label) for label in task.labels or ()]
    values: dict[str, float] = {}
    for name in task.metrics:
        values |= METRICS[name].score(answers, right, labels, references)
    return values


def average(metrics: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over all metric columns of all tasks: the authors' average.

    A task with two metrics counts twice. Raises DataError if there is nothing to average.
    """
    values = [value for columns in metrics.values() for value in columns.values()]
    if not values:
        raise DataError("No metrics to average: no task was evaluated")
    return statistics.fmean(values)
