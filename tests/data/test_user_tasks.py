"""Tasks in a YAML file: read strictly, and told what is wrong."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import pytest
import yaml
from row_examples import example

from hyperformer.data.examples import make_examples
from hyperformer.data.metrics import METRICS, compute_metrics
from hyperformer.data.readers.rows import record_rows
from hyperformer.data.tasks import Hub, Task, get_task, load_user_tasks
from hyperformer.data.tasks.user_tasks import READERS
from hyperformer.errors import ConfigError, DataError

GOOD = """
reviews:
  template: "review: {text}"
  target: stars
  labels: [1, 2, 3]
  label_map: {one: 1, two: 2, three: 3}
  metrics: [accuracy]
  hub: {path: someone/reviews, name: small}
  splits: {train: train, validation: dev, test: test}
  size: large
summaries:
  template: "summarize: {document[body]}"
  target: summary
  metrics: [rouge]
  answer_tokens: 60
  num_beams: 4
"""


def load(folder: Path, text: str):
    path = folder / "tasks.yaml"
    path.write_text(text, encoding="utf-8")
    return load_user_tasks(path)


def test_a_good_file(tmp_path: Path) -> None:
    tasks = load(tmp_path, GOOD)
    reviews = get_task("reviews", tasks)
    assert example(reviews, {"text": "fine", "stars": "two"}, prefix=True) == ("reviews review: fine", "2")
    assert reviews.splits["validation"] == "dev" and reviews.hub is not None and reviews.size == "large"
    summaries = tasks["summaries"]
    assert summaries.columns == ("document", "summary")
    assert example(summaries, {"document": {"body": "x"}, "summary": "y"}) == ("summarize: x", "y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("metrics: [accuracy]", "metric: [accuracy]"), "line 7, reviews.metric: unknown key 'metric'; did"),
        (("  metrics: [accuracy]\n", ""), "'metrics' is missing"),
        (("[accuracy]", "[acuracy]"), "line 7, reviews.metrics[0]: unknown metric 'acuracy'; did you mean 'accuracy'"),
        (("[accuracy]", "accuracy"), "write a list"),
        (("  labels: [1, 2, 3]\n  label_map: {one: 1, two: 2, three: 3}\n", ""), "give labels"),
        (("three: 3", "three: 4"), "line 6, reviews.label_map: it gives '4', which is not in labels"),
        (("{text}", "text"), "names no column"),
        (("{text}", "{text"), "write columns as"),
        (("{text}", "{text.__class__}"), "is not a column"),
        (("{text}", "{text!r}"), "is not a column"),
        (("size: large", "size: huge"), "line 10, reviews.size: is 'huge'"),
        (("validation: dev, ", ""), "name the source's split"),
        (("path: someone", "pth: someone"), "write {path: owner/name}"),
        (("answer_tokens: 60", "answer_tokens: many"), "whole number above 0"),
        (("reviews:", "reviews: ["), "not YAML"),
        (("template: \"review", "template: !!python/name:os.system \"review"), "is not supported"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace(change[0], change[1], 1))
    assert message in str(error.value) and "tasks.yaml" in str(error.value)


FITTING = {
    "template": "{a}", "target": "b", "metrics": ["accuracy"], "labels": ["0", "1"], "answer": "text",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["pearson_corrcoef"]}, "t.metrics: pearson_corrcoef reads answers as float or int, and answer is"),
        ({"metrics": ["spearman_corrcoef"], "answer": "float", "labels": ["low", "high"]}, "'low' is not"),
        ({"metrics": ["f1_score_with_invalid"], "labels": ["no", "yes"]}, "f1_score_with_invalid reads answers as int"),
        ({"metrics": ["f1_score_with_invalid"], "answer": "int", "labels": ["0", "1", "2"]}, "for the labels 0 and 1"),
        ({"metrics": ["f1_score_with_invalid"], "answer": "int", "labels": ["no", "yes"]}, "must be whole numbers"),
        ({"metrics": ["macro_f1"], "labels": None, "answer_tokens": 9}, "compares labels, and the task has none"),
        ({"metrics": ["matthews_corrcoef"], "answer": "float"}, "matthews_corrcoef reads answers as text or int"),
        ({"metrics": ["bleu"], "answer": "int"}, "bleu reads answers as text, and answer is int"),
        ({"answer": "int", "labels": ["-1", "0", "1"]}, "other than -1"),
        ({"answer": "int", "labels": ["1", "01"]}, "'1' is the same number as another label"),
        ({"answer": "float", "labels": ["1.0", "1"]}, "is the same number"),
        ({"answer": "float", "labels": ["0.0", "nan"]}, "must be finite numbers other than -1"),
        ({"answer": "int", "labels": ["0", "9" * 20]}, "must be whole numbers of at most 64 bits"),
        ({"labels": ["yes", "yes"]}, "'yes' is there twice"),
        ({"labels": ["yes", " no"]}, "' no' is empty, or has blanks around it"),
        ({"labels": ["yes", ""]}, "'' is empty"),
        ({"labels": ["yes", True]}, "t.labels[1]: must be text (true, false and null in quotes), not True"),
        ({"label_map": {"a": "0"}, "labels": None, "answer_tokens": 9}, "there are no labels"),
        ({"rounded": True, "answer": "float", "labels": ["5", "1"]}, "from the least score to the highest"),
        ({"rounded": True, "labels": ["low", "5.0"]}, "from the least score to the highest"),
        ({"rounded": True, "answer": "int"}, "t.answer: rounded is true, so answers are numbers such as 3.8"),
        ({"rounded": True, "metrics": ["macro_f1"]}, "rounded answers are any number"),
        ({"data": "a.csv"}, "t.data: a.csv is one file: say how its rows are split, such as split: 90/5/5"),
        ({"data": "reviews"}, "t.data: is 'reviews'; write a data set of the hub, owner/name or owner/name:config"),
        ({"data": "a/b:"}, "t.data: is 'a/b:'; write a data set of the hub"),
        ({"data": "a/b", "hub": {"path": "a/b"}}, "t.data: hub already says where the rows are"),
        ({"data": "a.csv", "split": "90/5/4"}, "t.split: 90/5/4 is 99 percent, and not 100"),
        ({"data": "a.csv", "split": "95/5/0"}, "t.split: 95/5/0: test would have no rows"),
        ({"data": "a.csv", "split": "90/10"}, "t.split: is '90/10'; write percent of train, validation and test"),
        ({"data": "a.csv", "split": "110/-5/-5"}, "write percent of train, validation and test, such as 90/5/5"),
        ({"data": "a.csv", "split": 90}, "write percent of train, validation and test, such as 90/5/5"),
        ({"data": "a.csv", "split": "90/5/5", "size": "small"}, "t.size: split already says which rows are train"),
        ({"accepted": "b"}, "t.accepted: none of the metrics reads it"),
        ({"metrics": ["squad"]}, "squad takes the best of all right answers: write accepted"),
        ({"metrics": ["multirc"]}, "multirc scores all rows of a question together: write group"),
        ({"metrics": ["multirc"], "group": "{q}", "labels": ["0", "1", "2"]}, "for two labels, of which the second"),
        ({"group": "q"}, "t.group: 'q' names no column"),
        ({"template": 5}, "'5' names no column"),
        ({"template": "{a:>5}"}, "'a' is not a column"),
        ({"num_beams": True}, "t.num_beams: is True; write a whole number above 0"),
        ({"rounded": "yes"}, "t.rounded: is 'yes'; write true or false"),
        ({"prefix": None}, "t.prefix: must be text"),
        ({"hub": {"path": "a/b", "parquet_copy": "yes"}}, "t.hub.parquet_copy: is 'yes'; write true or false"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_at_load(tmp_path: Path, changes: dict, message: str) -> None:
    row = {key: value for key, value in (FITTING | changes).items() if value is not None or key == "prefix"}
    with pytest.raises(ConfigError) as error:
        load(tmp_path, yaml.safe_dump({"t": row}))
    assert message in str(error.value) and re.search(r"tasks\.yaml, line \d+, t", str(error.value))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"metrics": ["macro_f1", "exact_match", "matthews_corrcoef"], "labels": ["no", "yes"]},
        {"metrics": ["f1_score_with_invalid", "matthews_corrcoef", "macro_f1"], "answer": "int"},
        {
            "metrics": ["pearson_corrcoef", "accuracy"],
            "answer": "float",
            "labels": ["0.0", "5.0"],
            "rounded": True,
        },
        {"metrics": ["spearman_corrcoef"], "answer": "int", "labels": None, "answer_tokens": 5},
        {"metrics": ["bleu", "rouge", "exact_match"], "labels": None, "answer_tokens": 5},
    ],
)
def test_what_fits_has_its_metrics_for_every_answer(tmp_path: Path, changes: dict) -> None:
    row = {key: value for key, value in (FITTING | changes).items() if value is not None}
    task = load(tmp_path, yaml.safe_dump({"t": row}))["t"]
    right = [*(task.labels or ("1", "2")), "3"] if task.labels is None else [*task.labels]
    for answers in (right, right[::-1], ["nonsense", "9" * 20] * len(right), [""] * len(right), ["1"] * 99):
        values = compute_metrics(task, answers[: len(right)], right)
        assert set(values) == {column for name in task.metrics for column in METRICS[name].columns}
        assert all(map(math.isfinite, values.values()))


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-1", "high"])
def test_a_right_answer_is_a_finite_number_where_answers_are_numbers(value: str) -> None:
    task = Task("t", "{a}", "b", ("pearson_corrcoef",), answer="float", answer_tokens=9)
    rows = record_rows(
        [{"a": "x", "b": "1.5"}, {"a": "y", "b": value}], "rows.csv", lambda row: f"line {row + 2}"
    )
    with pytest.raises(DataError, match=f"line 3: column 'b': '{value}' is not a finite number"):
        make_examples(task, rows, prefix=False)


def test_a_label_that_only_looks_like_one_of_the_task_is_told_apart() -> None:
    task = Task("t", "{a}", "b", ("accuracy",), labels=("\u00e9", "x"))
    rows = record_rows([{"a": "x", "b": "e\u0301"}], "rows.csv", lambda row: "line 2")
    with pytest.raises(DataError, match=r"'e.' is not a label; '.' looks alike .*'\\xe9', not 'e\\u0301'"):
        make_examples(task, rows, prefix=False)


def test_where_the_rows_are_in_one_line(tmp_path: Path) -> None:
    text = "{template: '{a}', target: b, labels: [x, y], metrics: [accuracy], data: %s}"
    one, other = (load(tmp_path, f"t: {text % where}")["t"] for where in ("me/notes", "me/notes:plain_text"))
    assert (one.hub, other.hub) == (Hub("me/notes"), Hub("me/notes", "plain_text")) and one.file is None
    for where in ("notes.csv", "./sub/../notes.csv", str(tmp_path / "notes.csv")):
        task = load(tmp_path, f"t: {text % (where + ', split: 33.3/33.3/33.4')}")["t"]
        assert task.file == str(tmp_path / "notes.csv") and task.split == ("33.3", "33.3", "33.4")


def test_every_field_of_a_task_has_a_reader() -> None:
    fields = {field.name for field in dataclasses.fields(Task)}
    assert set(READERS) - {"data"} == fields - {"name", "aliases", "file"}


@pytest.mark.parametrize("name", ["../x", "a/b", "a,b", ".x", " x", "x ", "", "e\u0301", 151 * "x"])
def test_names_that_no_task_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a task"):
        load(tmp_path, yaml.safe_dump({name: FITTING}))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_user_tasks(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "- a list", "name: text"])
def test_not_a_mapping_of_tasks(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected a mapping"):
        load(tmp_path, text)


def test_labels_are_texts_as_written_and_yaml_is_1_2(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "t:\n  template: 'costs ${price}'\n  target: y\n  labels: [no, 1.50, 012]\n"
        "  label_map: {off: no, true: 1.50}\n  metrics: [accuracy]\n"
    )
    task = load_user_tasks(path)["t"]
    assert task.labels == ("no", "1.50", "012")
    for answer, label in ((True, "1.50"), ("off", "no")):
        assert example(task, {"price": "3", "y": answer}) == ("costs $3", label)
    path.write_text("t:\n  template: '{x}'\n  target: y\n  labels: [a, true]\n  metrics: [accuracy]\n")
    with pytest.raises(ConfigError, match="t.yaml, line 4, .*labels.*in quotes"):
        load_user_tasks(path)
