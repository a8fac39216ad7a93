"""The toy tasks: the same everywhere, balanced, no row in two splits; the toy model's tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

import hyperformer.data
from hyperformer.data.splits import load_split
from hyperformer.data.tasks import TASKS, answer_length
from hyperformer.data.toy import GENERATORS, REMARKS, SPLIT_SIZES, pretraining_text, toy_rows
from hyperformer.errors import DataError
from hyperformer.settings.schema import DataConfig

TOY_T5 = Path(hyperformer.data.__file__).parent / "assets" / "toy-t5"


def texts(row: dict) -> tuple[str, ...]:
    return tuple(value for name, value in row.items() if name != "label")


@pytest.mark.parametrize("name", GENERATORS)
def test_splits_are_whole_balanced_and_apart(name: str) -> None:
    splits = {split: toy_rows(name, split) for split in SPLIT_SIZES}
    assert {split: len(rows) for split, rows in splits.items()} == SPLIT_SIZES
    everything = [texts(row) for rows in splits.values() for row in rows]
    assert len(set(everything)) == len(everything)
    for rows in splits.values():
        counts = Counter(row["label"] for row in rows)
        assert len(counts) == GENERATORS[name][1] and len(set(counts.values())) == 1
    assert all(text[0].isupper() and text.endswith(".") for row in everything for text in row)


@pytest.mark.parametrize("name", GENERATORS)
def test_rows_suit_their_task(name: str) -> None:
    examples = load_split(TASKS[name], "test", DataConfig(data_source="toy"))
    labels = {row["label"] for row in toy_rows(name, "test")}
    assert set(examples.targets) == {TASKS[name].answer_of(label) for label in labels}
    assert len(load_split(TASKS[name], "train", DataConfig(data_source="toy", n_train=5))) == 5


def test_rows_are_the_same_on_every_machine() -> None:
    rows = [toy_rows(name, split) for name in GENERATORS for split in SPLIT_SIZES]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    assert digest[:16] == "8efcbe9a927b9f63", (
        "toy rows changed: make the toy T5 anew (make toy-t5) and put the new hash here"
    )


def test_unknown_names() -> None:
    with pytest.raises(DataError, match="did you mean 'toy-sentiment'"):
        toy_rows("toy-sentimnt", "train")
    with pytest.raises(DataError, match="no split 'dev'"):
        toy_rows("toy-sentiment", "dev")


def test_pretraining_text_is_seeded_and_holds_no_held_out_row() -> None:
    passages = pretraining_text(5_000, 0)
    assert len(passages) == 5_000 and passages == pretraining_text(5_000, 0) != pretraining_text(5_000, 1)
    held_out = {
        " ".join(texts(row))
        for name in REMARKS
        for split in ("validation", "test")
        for row in toy_rows(name, split)
    }
    with_remark = [passage for passage in passages if passage.remark]
    assert len(with_remark) > 3_000
    assert not [passage for passage in with_remark if passage.text in held_out]
    answers = {label for name in GENERATORS for label in TASKS[name].labels or ()}
    said = {word for passage in with_remark for word in passage.remark.lower().strip(".").split()}
    assert not answers & said


def test_the_toy_model_reads_and_writes_the_answers() -> None:
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(TOY_T5)
    model = T5ForConditionalGeneration.from_pretrained(TOY_T5)
    assert (TOY_T5 / "model.safetensors").stat().st_size < 1.5e6
    assert len(tokenizer) <= model.config.vocab_size
    for name in GENERATORS:
        task = TASKS[name]
        assert answer_length(task, tokenizer) <= 5
        for label in task.labels or ():
            assert tokenizer.decode(tokenizer(label)["input_ids"], skip_special_tokens=True) == label
        examples = load_split(task, "test", DataConfig(data_source="toy", n_test=20), prefix=True)
        for source in examples.sources:
            assert tokenizer.unk_token_id not in tokenizer(source)["input_ids"]
