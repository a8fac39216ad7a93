"""Metrics are the authors', to the last digit."""

from __future__ import annotations

import json
import math

import pytest
from places import FIXTURES

from hyperformer.data.metrics import COLUMNS, METRICS, average, compute_metrics, read_float, read_int
from hyperformer.data.tasks import TASKS
from hyperformer.errors import DataError

THEIRS = json.loads((FIXTURES / "reference" / "data" / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "call", [call for call in THEIRS["calls"] if call["predictions"]], ids=lambda call: call["metric"]
)
def test_each_metric(call: dict) -> None:
    values = METRICS[call["metric"]](call["predictions"], call["targets"])
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
        # Their test's tokenizer has a token a character and </s>.
        lengths = [len(text) + 1 for text in case["pred"]]
        values[name] = compute_metrics(TASKS[name], case["pred"], case["label"], generated_lengths=lengths)
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


def test_rouge_and_the_columns_of_every_metric() -> None:
    numbers, texts = [0, 1, 1], ["a b", "c d", "e f"]
    for name, metric in METRICS.items():
        answers = texts if name in ("bleu", "rouge") else numbers
        assert tuple(metric(answers, answers)) == COLUMNS[name]
    assert METRICS["rouge"](["the cat sat"], ["the cat ran"]) == {
        "rouge1": 66.6667,
        "rouge2": 50.0,
        "rougeL": 66.6667,
    }


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(DataError, match="0 predictions for 0 targets"):
        compute_metrics(TASKS["rte"], [], [])
    with pytest.raises(DataError, match="1 predictions for 2 targets"):
        compute_metrics(TASKS["rte"], ["0"], ["0", "1"])
    with pytest.raises(DataError, match="No metrics"):
        average({})
