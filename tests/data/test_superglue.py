"""SuperGLUE and SQuAD: T5's prompts, the official metrics, and questions that stay in one split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from row_examples import example, examples
from superglue_rows import MAKERS, write_rows

from hyperformer.data.examples import make_sources
from hyperformer.data.metrics import compute_metrics
from hyperformer.data.question_metrics import Reference
from hyperformer.data.readers.rows import record_rows
from hyperformer.data.splits import load_split
from hyperformer.data.tasks import TASKS
from hyperformer.errors import ConfigError, DataError
from hyperformer.settings.schema import DataConfig

# Task -> (source with prefix, target) of its row number 1, written by hand after T5's appendix D and code.
PROMPTS = {
    "superglue-multirc": (
        "multirc question: question 0? answer: answer 1 paragraph: Sent 1: Paragraph 0. It goes on.",
        "True",
    ),
    "superglue-wsc": (
        "wsc: Mark told Pete many lies about number 1 , which *he* included in his book.",
        "Mark",
    ),
    "superglue-record": (
        "record query: @placeholder was glad 1 times entities: Anna, Bob, Oslo, Robert passage: Anna met Bob in Oslo. "
        "She was glad. He was not",
        "Anna",
    ),
    "squad": ("question: How many parks does 1 have ? context: Oslo ( Norway ) has 7 . 5 parks1 .", "7 . 5"),
    "superglue-copa": (
        "copa choice1: It fell 1. choice2: It rose. premise: He let go. question: effect",
        "choice2",
    ),
    "superglue-wic": (
        "wic sentence1: Do you 1 want a place? sentence2: A place at the table. word: place",
        "True",
    ),
    "superglue-cb-official": ("cb hypothesis: It is so. premise: I know it 1.", "contradiction"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_prompts_are_t5s(name: str) -> None:
    row = MAKERS[name](1)
    assert example(TASKS[name], row, prefix=True) == PROMPTS[name]
    without = {key: value for key, value in row.items() if key not in ("label", "answers", "span1_text")}
    asked = make_sources(TASKS[name], record_rows([without], "here", str), prefix=True)
    assert asked == [PROMPTS[name][0]]  # predict needs no answer


def load(folder: str, task: str, split: str, **settings: Any) -> Any:
    return load_split(TASKS[task], split, DataConfig(data_source="folder", data_dir=folder, **settings))


def test_the_rows_of_a_question_stay_together(tmp_path: Path) -> None:
    folder = write_rows(tmp_path)
    found = {
        split: load(folder, "superglue-multirc", split, n_val=4) for split in ("train", "validation", "test")
    }
    groups = {split: [one.group for one in rows.references] for split, rows in found.items()}
    assert not set(groups["train"]) & set(groups["validation"])
    assert (
        len(groups["validation"]) == 3 and len(set(groups["validation"])) == 1
    )  # n_val=4 holds one whole question
    assert len(groups["train"]) == 21 and len(groups["test"]) == 24
    assert all(rows.count(group) == 3 for rows in groups.values() for group in rows)
    with pytest.raises(DataError, match="'validation' would be empty"):
        load(folder, "superglue-multirc", "validation", n_val=2)
    with pytest.raises(ConfigError, match="reference_splits: the authors have no task such as"):
        load(folder, "superglue-multirc", "train", reference_splits=True)


def test_training_rows_have_one_right_answer_each(tmp_path: Path) -> None:
    folder = write_rows(tmp_path)
    train, test = (load(folder, "superglue-record", split) for split in ("train", "test"))
    assert set(train.targets) == {"Anna", "Bob", "Robert"} and set(test.targets) == {"Anna", "Bob"}
    assert len(test) == 24 and test.references[test.targets.index("Bob")].accepted == ("Bob", "Robert", "Bob")
    assert len(load(folder, "superglue-record", "train", n_train=5)) == 5
    # WSC is trained on right candidates only, and answered for all of them.
    assert set(load(folder, "superglue-wsc", "train").targets) == {"Mark"}
    assert set(load(folder, "superglue-wsc", "test").targets) == {"Mark", "Pete"}


def test_multirc_scores_answers_and_questions() -> None:
    references = [Reference(group) for group in ("1", "1", "2", "2", "3")]
    targets = ["True", "False", "True", "True", "False"]
    answers = ["True", "False", "True", "False", "perhaps"]  # an invalid answer counts as True here
    found = compute_metrics(TASKS["superglue-multirc"], answers, targets, references=references)
    precision, recall = 2 / 3, 2 / 3
    assert found["f1a"] == pytest.approx(100 * 2 * precision * recall / (precision + recall))
    assert found["question_em"] == pytest.approx(100 / 3)
    assert (
        compute_metrics(TASKS["superglue-multirc"], ["x"], ["True"], references=[Reference("1")])["f1a"] == 0
    )


def test_the_f1_of_cb_is_over_all_three_labels() -> None:
    """As SuperGLUE's own evaluation and T5's. scikit-learn's macro F1 leaves out a label that no row has."""
    task, targets = TASKS["superglue-cb-official"], ["entailment", "contradiction"] * 2
    assert compute_metrics(task, targets, targets) == {"macro_f1_all": pytest.approx(200 / 3), "acc": 100}
    found = compute_metrics(task, ["entailment", "no idea", "neutral", "contradiction"], targets)
    assert found == {"macro_f1_all": pytest.approx(100 * (2 / 3 + 2 / 3) / 3), "acc": 50}


@pytest.mark.parametrize(
    ("answer", "accepted", "em", "f1"),
    [
        ("The  Eiffel tower!", ("eiffel tower",), 100, 100),
        ("7 . 5", ("7 . 5", "7 . 5 parks"), 100, 100),
        ("7 parks", ("nothing", "5 parks here"), 0, 40),
        ("", ("something",), 0, 0),
        ("the", ("a",), 100, 0),  # nothing is left of both
        ("US's theatre", ("U.S.s theatre",), 100, 100),  # punctuation goes without a blank, articles as words
        ("x y", ("x y z w", "x"), 0, 100 * 2 / 3),  # the best, not the first or the mean
        ("a b b", ("b b b",), 0, 100 * 2 * 2 / 5),
    ],
)
def test_squads_exact_match_and_f1(answer: str, accepted: tuple[str, ...], em: float, f1: float) -> None:
    found = compute_metrics(TASKS["squad"], [answer], [accepted[0]], references=[Reference("", accepted)])
    assert found == pytest.approx({"em": em, "word_f1": f1})


@pytest.mark.parametrize(
    ("answer", "candidate", "same"),
    [
        ("the councilmen", "Councilmen", True),
        ("tom", "The uncle Tom", True),
        ("Bob", "Bob's hat", False),
        ("Mark", "Pete", False),
        ("the", "Pete", None),
        ("Pete", "the", False),
    ],
)
def test_a_referent_is_recognised_as_t5_does(answer: str, candidate: str, same: bool | None) -> None:
    def score(*accepted: str) -> float:
        references = [Reference("", accepted)]
        return compute_metrics(TASKS["superglue-wsc"], [answer], [candidate], references=references)[
            "referent_acc"
        ]

    assert (score(candidate), score()) == (100 * (same is True), 100 * (same is False))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("superglue-wsc", {"span2_index": 3}, "column 'text': word number 3 .* does not start with 'he'"),
        ("superglue-wsc", {"label": 7}, "column 'label': 7 is neither 0 nor 1"),
        ("superglue-wsc", {"label": -1}, "column 'label' has no right answer"),
        ("superglue-record", {"answers": []}, r"column 'answers\[0\]' has no value"),
        ("superglue-record", {"answers": [1]}, "column 'answers' is .1., and not a list of texts"),
        ("superglue-multirc", {"idx": 4}, r"column 'idx\[paragraph\]' has no value"),
        ("superglue-multirc", {"label": -1}, "column 'label': '-1' is no label"),
        ("squad", {"answers": {"text": [], "answer_start": []}}, r"column 'answers\[text\]\[0\]' has no value"),
        ("superglue-copa", {"label": 2}, "column 'label': '2' is not a label"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"rows, row 0: {message}"):
        examples(TASKS[name], MAKERS[name](1) | change)


def test_a_pronoun_whose_number_is_off_by_one_is_found() -> None:
    row = MAKERS["superglue-wsc"](1) | {"span2_index": 9}
    assert "which *he* included" in example(TASKS["superglue-wsc"], row)[0]
