"""Token ids: right, cut and counted, kept on disk; and batches as the authors' collator makes them."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_files import reference, reference_path
from transformers import ByT5Tokenizer, T5Tokenizer

from hyperformer.data.collate import IGNORED, collate
from hyperformer.data.dataset import TokenizedSplit, tokenize_split
from hyperformer.data.examples import Examples
from hyperformer.data.question_metrics import Reference
from hyperformer.data.tasks import Task
from hyperformer.settings.schema import DataConfig

COLLATOR = reference("e2e/collator.json")
TASK = Task("copy", "{source}", "target", ("accuracy",), answer_tokens=9)


@pytest.fixture(scope="module")
def tokenizer():
    return T5Tokenizer.from_pretrained(str(reference_path("e2e/spiece.model").parent))


def rows(count: int = 5) -> Examples:
    return Examples(["the cat " * (row + 1) for row in range(count)], [str(row % 2) for row in range(count)])


def tokenize(data: Examples, tokenizer, cache: Path, *, source: int = 12, target: int = 5) -> TokenizedSplit:
    settings = DataConfig(max_source_length=source, max_target_length=target, cache_dir=str(cache))
    return tokenize_split(data, TASK, tokenizer, settings)


@pytest.mark.parametrize("theirs", COLLATOR, ids=lambda theirs: theirs["task"])
def test_batches_are_the_authors(theirs: dict, tokenizer, tmp_path: Path) -> None:
    data = Examples(
        [example["src_texts"] for example in theirs["examples"]],
        [example["tgt_texts"] for example in theirs["examples"]],
    )
    split = tokenize(
        data, tokenizer, tmp_path, source=theirs["max_source_length"], target=theirs["max_target_length"]
    )
    batch = collate(split, range(len(split)), pad_token_id=tokenizer.pad_token_id)
    labels = batch["labels"].masked_fill(batch["labels"] == IGNORED, tokenizer.pad_token_id)
    assert batch["input_ids"].tolist() == theirs["batch"]["input_ids"]
    assert batch["attention_mask"].tolist() == theirs["batch"]["attention_mask"]
    assert labels.tolist() == theirs["batch"]["labels"]
    shifted = torch.cat([torch.zeros(len(labels), 1, dtype=torch.long), labels[:, :-1]], dim=1)
    assert shifted.tolist() == theirs["batch"]["decoder_input_ids"]
    assert all(value.dtype == torch.int64 for value in batch.values())


def test_rows_are_what_the_tokenizer_gives(tokenizer, tmp_path: Path) -> None:
    split = tokenize(rows(), tokenizer, tmp_path, source=6)
    texts = rows().sources
    expected = tokenizer(texts, truncation=True, max_length=6)["input_ids"]
    assert [ids.tolist() for ids in split.sources(range(5))] == expected
    assert split.truncated_sources == sum(len(ids) > 6 for ids in tokenizer(texts)["input_ids"]) > 0
    assert split.truncated_targets == 0
    assert list(split.target_texts) == ["0", "1", "0", "1", "0"] and len(split) == 5
    assert split.targets([1])[0].tolist() == tokenizer("1")["input_ids"]


def test_rows_are_tokenised_once(tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tokenize(rows(), tokenizer, tmp_path)
    (path,) = (tmp_path / "tokenized").iterdir()
    tokenizer(
        ["something"], truncation=True, max_length=4, padding=True
    )  # changes the fast tokenizer's state
    monkeypatch.setattr("hyperformer.data.dataset._tokenize", lambda *_: pytest.fail("tokenised again"))
    second = tokenize(rows(), tokenizer, tmp_path)
    for a, b in zip(first.sources(range(5)), second.sources(range(5)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(second.source_ids.ids, np.memmap)
    assert list((tmp_path / "tokenized").iterdir()) == [path]


def test_what_changes_the_ids_changes_the_file(tokenizer, tmp_path: Path) -> None:
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["zat"])
    changed = [
        tokenize(rows(), tokenizer, tmp_path),
        tokenize(rows(4), tokenizer, tmp_path),
        tokenize(Examples(rows().sources, ["1", "0", "1", "0", "1"]), tokenizer, tmp_path),
        tokenize(Examples([f"copy {text}" for text in rows().sources], rows().targets), tokenizer, tmp_path),
        tokenize(rows(), tokenizer, tmp_path, source=11),
        tokenize(rows(), tokenizer, tmp_path, target=4),
        tokenize(rows(), other, tmp_path),
        tokenize(rows(), ByT5Tokenizer(), tmp_path, source=40),
        tokenize(rows(), ByT5Tokenizer(extra_ids=100), tmp_path, source=40),
    ]
    assert len(list((tmp_path / "tokenized").iterdir())) == len(changed)


def test_a_run_that_began_with_an_earlier_version_finds_its_fingerprints(tokenizer, tmp_path: Path) -> None:
    """inputs.json of such a run holds them; a resume refuses others."""
    assert tokenize(rows(), tokenizer, tmp_path).fingerprint == "5 rows, a995df1dab2ec2b1"
    references = [Reference(f"question {row // 2} é", ("a", "b" * row)) for row in range(5)]
    split = tokenize(dataclasses.replace(rows(), references=references), tokenizer, tmp_path)
    assert split.fingerprint == "5 rows, a995df1d0513a622" and list(split.references) == references


@pytest.mark.parametrize("damage", ["shorter", "empty", *range(0, 700, 23)])
def test_a_damaged_file_is_made_anew(tokenizer, tmp_path: Path, damage: str | int) -> None:
    whole = tokenize(rows(), tokenizer, tmp_path).sources([4])[0].tolist()
    (path,) = (tmp_path / "tokenized").iterdir()
    content = bytearray(path.read_bytes())
    if isinstance(damage, int):
        content[damage % len(content)] ^= 1
    path.write_bytes({"shorter": content[:-8], "empty": b""}.get(damage, bytes(content)))
    with pytest.warns(UserWarning, match="tokenising again"):
        assert tokenize(rows(), tokenizer, tmp_path).sources([4])[0].tolist() == whole
    assert tokenize(rows(), tokenizer, tmp_path).sources([4])[0].tolist() == whole


def test_a_cache_that_cannot_be_written_is_only_a_warning(tokenizer, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.warns(UserWarning, match="not kept"):
        assert len(tokenize(rows(), tokenizer, blocked)) == 5
