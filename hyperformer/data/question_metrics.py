"""Metrics of questions that have several rows, or several right answers: MultiRC, SQuAD, ReCoRD, WSC. In percent.

What they read beside the target is a row's :class:`Reference`. Answers are text without blanks around it.
"""

from __future__ import annotations

import re
import statistics
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Texts = Sequence[str]
References = Sequence["Reference"]
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
# What T5's code leaves out of a referent, as written there.
_DETERMINERS = frozenset(
    (
        "a", "an", "few", "her", "his", "each", "every", "many", "much", "my", "our", "some", "that", "the", "their",
        "these", "this", "those", "which", "whose", "your",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """What an answer is compared with, beside the target.

    Attributes:
        group: the question that the row belongs to; '': the row is a question of its own.
        accepted: every right answer; (): the target is a wrong one (WSC), or the task has no such list.
    """

    group: str = ""
    accepted: tuple[str, ...] = ()


def multirc(answers: Texts, targets: Texts, labels: Texts, references: References) -> dict[str, float]:
    """MultiRC's two metrics (Khashabi et al. 2018): F1 over all answers, and questions without a wrong answer.

    Args:
        labels: two; the second is the positive one. Another answer counts as the wrong one of the two.
    """
    positive = labels[1]
    right = [answer == target for answer, target in zip(answers, targets, strict=True)]
    hits = sum(ok and target == positive for ok, target in zip(right, targets, strict=True))
    # Each wrong answer is a false positive or a false negative.
    wrong = len(right) - sum(right)
    questions: dict[str, bool] = defaultdict(lambda: True)
    for ok, reference in zip(right, references, strict=True):
        questions[reference.group] &= ok
    return {
        "f1a": 100 * 2 * hits / (2 * hits + wrong) if hits else 0.0,
        "question_em": 100 * statistics.fmean(questions.values()),
    }


def squad(answers: Texts, targets: Texts, references: References) -> dict[str, float]:
    """SQuAD's exact match and F1 of words (Rajpurkar et al. 2016), each the best over the accepted answers."""
    scores = [
        (max(map(_equal(answer), reference.accepted)), max(map(_word_f1(answer), reference.accepted)))
        for answer, reference in zip(answers, references, strict=True)
    ]
    exact, overlap = zip(*scores, strict=True)
    return {"em": 100 * statistics.fmean(exact), "word_f1": 100 * statistics.fmean(overlap)}


def normalised(text: str) -> str:
    """SQuAD's form of an answer: lower case, without punctuation, articles and superfluous blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _equal(answer: str) -> Callable[[str], float]:
    found = normalised(answer)
    return lambda accepted: float(normalised(accepted) == found)


def _word_f1(answer: str) -> Callable[[str], float]:
    found = normalised(answer).split()

    def score(accepted: str) -> float:
        wanted = normalised(accepted).split()
        common = sum((Counter(found) & Counter(wanted)).values())
        return 2 * common / (len(found) + len(wanted)) if common else 0.0

    return score


def referent(answers: Texts, targets: Texts, references: References) -> dict[str, float]:
    """WSC as T5 answers it: whether the written noun means the candidate (`targets`), as a yes or no; its accuracy.

    The candidate is right if it is accepted. T5's rule: the words of one are among those of the other, determiners
    left out; with an apostrophe ("Bob's hat") in one of them only, they differ. An empty answer is wrong.
    """
    right = [
        _same_referent(answer, target) is bool(reference.accepted)
        for answer, target, reference in zip(answers, targets, references, strict=True)
    ]
    return {"referent_acc": 100 * statistics.fmean(right)}


def _same_referent(answer: str, candidate: str) -> bool | None:
    """None: the answer names nothing."""
    found, wanted = (
        {word for word in text.lower().split() if word not in _DETERMINERS} for text in (answer, candidate)
    )
    if not found:
        return None
    if any("'" in word for word in found) != any("'" in word for word in wanted):
        return False
    return bool(wanted) and (found <= wanted or wanted <= found)
