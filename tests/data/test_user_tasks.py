"""Tasks in a YAML file: read strictly, and told what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from row_examples import example

from hyperformer.data.tasks import get_task, load_user_tasks
from hyperformer.errors import ConfigError

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
        (("metrics: [accuracy]", "metric: [accuracy]"), "unknown key 'metric'; did you mean 'metrics'"),
        (("  metrics: [accuracy]\n", ""), "'metrics' is missing"),
        (("[accuracy]", "[acuracy]"), "unknown metric 'acuracy'; did you mean 'accuracy'"),
        (("[accuracy]", "accuracy"), "write a list"),
        (("  labels: [1, 2, 3]\n  label_map: {one: 1, two: 2, three: 3}\n", ""), "give labels"),
        (("three: 3", "three: 4"), "not in labels"),
        (("{text}", "text"), "names no column"),
        (("{text}", "{text"), "write columns as"),
        (("{text}", "{text.__class__}"), "is not a column"),
        (("{text}", "{text!r}"), "is not a column"),
        (("size: large", "size: huge"), "size is 'huge'"),
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


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_user_tasks(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "- a list", "name: text"])
def test_not_a_mapping_of_tasks(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected a mapping"):
        load(tmp_path, text)
