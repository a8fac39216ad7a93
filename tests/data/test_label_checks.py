"""Labels that a tokenizer cannot write are refused before training; free texts are told about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import FIXTURES, REAL_DATA
from transformers import AutoTokenizer, ByT5Tokenizer, T5Tokenizer

from hyperformer.adapters.bases.families import TOY_FOLDER
from hyperformer.data.dataset import tokenize_split
from hyperformer.data.examples import Examples
from hyperformer.data.label_checks import check_labels, decode, notes, possible_answers
from hyperformer.data.metrics import compute_metrics
from hyperformer.data.tasks import TASKS, Task, answer_length
from hyperformer.errors import ConfigError
from hyperformer.settings.schema import DataConfig

FOLDERS = {"toy": TOY_FOLDER} | ({"t5": REAL_DATA.parent / "t5_tokenizer"} if REAL_DATA else {})
TOKENIZERS: dict[str, Any] = {
    "small": T5Tokenizer.from_pretrained(str(FIXTURES / "reference" / "e2e")),
    "bytes": ByT5Tokenizer(),
    **{name: AutoTokenizer.from_pretrained(folder) for name, folder in FOLDERS.items()},
}


def task(*labels: str, **settings: Any) -> Task:
    return Task("t", "{a}", "b", ("accuracy",), labels, **settings)


def check(
    labels: tuple[str, ...], tokenizer: str = "small", method: str = "generate", tokens: int = 20
) -> None:
    check_labels(task(*labels), TOKENIZERS[tokenizer], method=method, max_tokens=tokens)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("是", "否"), "these labels are the same tokens: '是' and '否'"),
        (("是", "no"), "cannot write these labels: '是' becomes ''"),
        (("½", "no"), "'½' becomes '12'"),
        (("{good}", "no"), "'{good}' becomes 'good'"),
        (("the  cat", "no"), "'the  cat' becomes 'the cat'"),
        (("the\ncat", "no"), "becomes 'the cat'"),
        (("</s>", "no"), "'</s>' becomes ''"),
        (("<extra_id_0>", "no"), "'<extra_id_0>' becomes ''"),
        (("ﬁn", "no"), "'ﬁn' becomes 'fin'"),
        (("the\u200bcat", "no"), "becomes 'the cat'"),
    ],
)
def test_labels_that_cannot_be_written(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check(labels)
    for part in (message, "task 't'", "label_map", "fixtures"):
        assert part in str(error.value)


def test_ranking_needs_labels_that_differ_only() -> None:
    check(("½", "no"), method="rank")
    with pytest.raises(ConfigError, match="the same tokens"):
        check(("是", "否"), method="rank")


def test_labels_that_are_too_long() -> None:
    with pytest.raises(
        ConfigError, match="max_target_length is 3, and these labels have more tokens.*'the men' has"
    ):
        check(("the", "the men"), tokens=3)
    with pytest.raises(
        ConfigError, match="answer_tokens is 2, and these labels .*write a larger answer_tokens"
    ):
        check_labels(task("the cat", "no", answer_tokens=2), TOKENIZERS["small"], method="rank")


def test_every_score_that_a_row_can_have_is_looked_at() -> None:
    assert len(possible_answers(TASKS["stsb"])) == 51
    with pytest.raises(ConfigError, match=r"'0.6' and '0.7' and '0.9'"):
        check_labels(TASKS["stsb"], TOKENIZERS["small"], method="generate")
    check_labels(TASKS["stsb"], TOKENIZERS["small"], method="rank")


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("built_in", TASKS.values(), ids=TASKS)
def test_the_built_in_tasks_can_be_written(built_in: Task, name: str) -> None:
    check_labels(built_in, TOKENIZERS[name], method="generate", max_tokens=128)


LABELS = st.text(
    st.sampled_from("abc 01.½是否{}_-éE\u0301ﬁ\n\u200b<>/s") | st.characters(exclude_categories=["Cs"]),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(
    labels=st.lists(LABELS.map(str.strip).filter(bool), min_size=2, max_size=4, unique=True), data=st.data()
)
def test_what_passes_is_scored_right_and_what_is_refused_is_not(
    labels: list[str], data: st.DataObject
) -> None:
    tokenizer = TOKENIZERS[data.draw(st.sampled_from(sorted(TOKENIZERS)))]
    made = task(*labels)
    best = decode(tokenizer, tokenizer(labels)["input_ids"])
    fine = compute_metrics(made, best, labels)["acc"] == 100
    try:
        check_labels(made, tokenizer, method="generate", max_tokens=100)
    except ConfigError:
        assert not fine
    else:
        assert fine


FREE = Task("free", "{a}", "b", ("rouge",), answer_tokens=9)


def told(folder: Path, made: Task, *targets: str, source: int = 12) -> list[str]:
    limits = DataConfig(max_source_length=source, max_target_length=9, cache_dir=str(folder))
    rows = tokenize_split(Examples(["the cat"] * len(targets), targets), made, TOKENIZERS["small"], limits)
    return list(notes(made, {"train": rows, "test": rows}, TOKENIZERS["small"], limits))


def test_what_is_told_of_free_texts(tmp_path: Path) -> None:
    assert told(tmp_path, FREE, "the cat", "the  men\n") == []
    assert told(tmp_path, FREE, "the cat", "是") == [
        f"{split}: the tokenizer cannot write 1 of 2 targets as they are, so no answer can equal them: "
        "'是' becomes ''"
        for split in ("train", "test")
    ]
    assert "BLEU" in told(tmp_path, Task("free", "{a}", "b", ("bleu",), answer_tokens=9), "是")[-1]
    exact = Task("free", "{a}", "b", ("accuracy",), answer_tokens=9)
    assert "1 of 2 targets" in told(tmp_path, exact, "the cat", "the  men")[0]


def test_cut_texts_are_counted_and_told_once(tmp_path: Path) -> None:
    long = "the cat gave cars to the men who were there"
    found = told(tmp_path, FREE, "the cat", long, source=2)
    assert found[:2] == [
        "sources cut at max_source_length=2 tokens: 2 of 2 in train, 2 of 2 in test",
        "targets cut at max_target_length=9 tokens: 1 of 2 in train, 1 of 2 in test",
    ]
    short = Task("free", "{a}", "b", ("rouge",), answer_tokens=2)
    assert "train: 1 of 1 targets are longer than answer_tokens=2" in told(tmp_path, short, "the cat")
    assert answer_length(short, TOKENIZERS["small"]) == 2
