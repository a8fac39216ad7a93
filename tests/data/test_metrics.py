"""Metrics are the authors', to the last digit."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import FIXTURES
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import f1_score

from hyperformer.data.metrics import METRICS, ROUGE, average, compute_metrics, read_float, read_int
from hyperformer.data.question_metrics import Reference
from hyperformer.data.tasks import TASKS, Task
from hyperformer.errors import DataError

THEIRS = json.loads((FIXTURES / "reference" / "data" / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "call", [call for call in THEIRS["calls"] if call["predictions"]], ids=lambda call: call["metric"]
)
def test_each_metric(call: dict) -> None:
    values = METRICS[call["metric"]].compute(call["predictions"], call["targets"])
    if isinstance(call["result"], str):  # theirs crashes: Pearson of one row
        assert call["metric"] == "pearson_corrcoef" and values == {"pearson_corrcoef": 0.0}
    else:
        assert values == call["result"]


@pytest.mark.parametrize("text", THEIRS["post_processing"])
def test_answers_are_read_as_numbers_like_theirs(text: str) -> None:
    expected = THEIRS["post_processing"][text]
    assert read_int(text) == expected["int"]
    number = read_float(text)
    assert number == expected["float"] or (math.isnan(number) and math.isnan(expected["float"]))


def all_tasks() -> dict[str, dict[str, float]]:
    values = {}
    for name, case in THEIRS["compute_metrics"].items():
        values[name] = compute_metrics(TASKS[name], case["pred"], case["label"])
        if "gen_len" in case["result"]:  # we do not report it; their average counts it
            values[name]["gen_len"] = case["result"]["gen_len"]
    return values


@pytest.mark.parametrize("name", THEIRS["compute_metrics"])
def test_each_task(name: str) -> None:
    assert all_tasks()[name] == THEIRS["compute_metrics"][name]["result"]


def test_the_average_is_over_columns() -> None:
    theirs, values = THEIRS["evaluate_average"], all_tasks()
    keys = [f"{task}_eval_{column}" for task, columns in values.items() for column in columns]
    assert keys == theirs["keys"]
    assert average(values) == pytest.approx(theirs["eval_average_metrics"], rel=1e-12)
    glue = {task: columns for task, columns in values.items() if task not in ("wnli", "wmt16-en-ro")}
    assert average(glue) == pytest.approx(theirs["glue_only"], rel=1e-12)


def test_invalid_answers_are_wrong_answers() -> None:
    assert compute_metrics(TASKS["mrpc"], ["yes", ""], ["1", "0"]) == {"f1": 0.0, "acc": 0.0}
    assert compute_metrics(TASKS["rte"], ["01", "0"], ["1", "0"]) == {"acc": 50.0}


@pytest.mark.parametrize("name", METRICS)
def test_the_columns_of_every_metric(name: str) -> None:
    metric = METRICS[name]
    answers: list = ["a b c d", "e f g h", "i j k l"] if metric.answers[0] == "text" else [0, 1, 1]
    answers = ["no", "yes", "yes"] if metric.labels == "two" else answers
    references = [Reference(str(row), (str(answer),)) for row, answer in enumerate(answers)]
    values = metric.score(answers, answers, sorted(set(answers)), references)
    assert tuple(values) == metric.columns and min(values.values()) > 99


def test_macro_f1_is_scikit_learns_where_all_answers_are_labels() -> None:
    rng, labels = random.Random(0), ["no", "perhaps", "yes"]
    task = Task("t", "{a}", "b", ("macro_f1", "accuracy"), tuple(labels))
    for rows in (1, 5, 200):
        targets, predictions = rng.choices(labels, k=rows), rng.choices(labels, k=rows)
        expected = 100 * f1_score(targets, predictions, average="macro", zero_division=0)
        assert compute_metrics(task, predictions, targets)["macro_f1"] == pytest.approx(expected)
    # A class that no row has does not count; an answer that is no label is a miss.
    assert compute_metrics(task, ["no", "yes"], ["no", "yes"])["macro_f1"] == 100
    assert compute_metrics(task, ["no", "maybe"], ["no", "yes"])["macro_f1"] == 50


def test_exact_match_is_of_words() -> None:
    task = Task("t", "{a}", "b", ("exact_match",), answer_tokens=9)
    assert compute_metrics(task, ["a  b\n", "A b"], ["a b", "a b"]) == {"exact_match": 50.0}


@given(st.text(st.sampled_from("abcCats running. 3,5-_\n'")), st.text(st.sampled_from("abcCats running. ")))
def test_rouge_of_ascii_is_rouge_scores_own(prediction: str, target: str) -> None:
    theirs = RougeScorer([*ROUGE], use_stemmer=True).score(target, prediction)
    expected = {kind: round(100 * theirs[kind].fmeasure, 4) for kind in ROUGE}
    assert METRICS["rouge"].compute([prediction], [target]) == expected


@pytest.mark.parametrize(
    ("prediction", "target", "value"),
    [
        ("the cat sat", "the cat ran", 66.6667),
        ("привет, мир", "Привет мир!", 100.0),
        ("我喜欢猫", "我喜欢狗", 75.0),
        ("हिन्दी में", "हिन्दी भी", 50.0),
        ("caf\u00e9", "cafe\u0301", 100.0),
        ("café", "caf", 0.0),
    ],
)
def test_rouge_knows_every_script(prediction: str, target: str, value: float) -> None:
    assert METRICS["rouge"].compute([prediction], [target])["rouge1"] == value


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(DataError, match="0 predictions for 0 targets"):
        compute_metrics(TASKS["rte"], [], [])
    with pytest.raises(DataError, match="1 predictions for 2 targets"):
        compute_metrics(TASKS["rte"], ["0"], ["0", "1"])
    with pytest.raises(DataError, match="No metrics"):
        average({})
