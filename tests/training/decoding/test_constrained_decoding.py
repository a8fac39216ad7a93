"""Constrained decoding writes the labels, and what the model would write among them; no batch changes an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from places import FIXTURES
from trained_models import make_adapter, make_base
from transformers import T5Tokenizer

from hyperformer.adapters.model import HyperformerT5
from hyperformer.data.dataset import Ragged, TokenizedSplit
from hyperformer.data.label_checks import possible_answers
from hyperformer.data.sampling.by_length import packed_batches
from hyperformer.data.tasks import TASKS, Task
from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.training.evaluation import Decoding, Evaluator, answer
from hyperformer.training.ranks.distributed import DistributedContext

ALONE = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
CONSTRAINED = Decoding("constrained")
# A label that begins another one; one of several tokens.
NESTED = replace(TASKS["cola"], labels=("0", "0 0", "0 0 1", "1", "not acceptable"))


@pytest.fixture(scope="module")
def tokenizer() -> T5Tokenizer:
    return T5Tokenizer.from_pretrained(str(FIXTURES / "reference" / "e2e"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HyperformerT5:
    folder = tmp_path_factory.mktemp("model")
    return make_adapter(folder / "adapter", make_base(folder / "t5"))


def split_of(count: int) -> TokenizedSplit:
    """Rows of 3 to 12 tokens."""
    random = np.random.default_rng(0)
    rows = [np.append(random.integers(3, 100, random.integers(2, 12)), 1) for _ in range(count)]
    source = Ragged(np.concatenate(rows), np.asarray([len(row) for row in rows]))
    return TokenizedSplit(source, source, [""] * count, 0, 0, fingerprint="")


def greedy_among(
    model: HyperformerT5, tokenizer: T5Tokenizer, labels: list[str], source: torch.Tensor
) -> str:
    """The label that greedy decoding writes for one row, token by token, where only labels can be written."""
    left = {label: [*ids] for label, ids in zip(labels, tokenizer(labels)["input_ids"], strict=True)}
    written = [model.config.decoder_start_token_id]
    for place in range(max(map(len, left.values()))):
        scores = model(input_ids=source, decoder_input_ids=torch.tensor([written]), task="cola").logits[0, -1]
        best = max({ids[place] for ids in left.values()}, key=lambda token: float(scores[token]))
        left = {label: ids for label, ids in left.items() if ids[place] == best}
        written.append(best)
        if best == tokenizer.eos_token_id:
            break
    (label,) = left
    return label


@pytest.mark.parametrize("task", [TASKS["cola"], NESTED], ids=["two", "nested"])
@torch.no_grad()
def test_it_writes_what_the_model_prefers_among_the_labels(
    task: Task, model: HyperformerT5, tokenizer: T5Tokenizer
) -> None:
    split, labels = split_of(12), possible_answers(task)
    sources = [torch.tensor(row[None].astype(np.int64)) for row in split.sources(range(12))]
    expected = [greedy_among(model, tokenizer, labels, source) for source in sources]
    for rows in (5, None):
        found = Evaluator(model, tokenizer, ALONE, rows, CONSTRAINED).answers(task, split)
        assert [one.text for one in found] == [one.generated for one in found] == expected
    beams = Evaluator(model, tokenizer, ALONE, 5, CONSTRAINED).answers(replace(task, num_beams=4), split)
    assert {one.text for one in beams} <= set(labels)
    free = Evaluator(model, tokenizer, ALONE, 5).answers(task, split)
    assert not {one.text for one in free} <= set(labels)


def test_numbers_between_the_labels_can_be_written() -> None:
    assert len(possible_answers(TASKS["stsb"], "constrained")) == 51


def test_where_no_label_can_be_written(model: HyperformerT5, tokenizer: T5Tokenizer, tmp_path: Path) -> None:
    batch = {"input_ids": torch.tensor([[5, 6, 1]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    with pytest.raises(ConfigError, match="decode=constrained .* wmt16-ro-en has none"):
        answer(model, TASKS["wmt16-ro-en"], tokenizer, batch, CONSTRAINED)
    broken = make_adapter(tmp_path / "adapter", make_base(tmp_path / "t5"))
    broken.shared.weight.data.fill_(float("nan"))
    for beams in (1, 3):
        with pytest.raises(HyperformerError, match="not a number"):
            answer(broken, replace(TASKS["cola"], num_beams=beams), tokenizer, batch, CONSTRAINED)


@pytest.mark.parametrize("ranks", [1, 3])
def test_batches_are_packed_by_tokens(ranks: int) -> None:
    lengths = np.random.default_rng(0).integers(10, 129, 1_000)
    batches = packed_batches(lengths, ranks, None, 20)
    rows = np.concatenate([batch.ravel() for batch in batches])
    assert sorted(set(rows.tolist())) == list(range(1_000)) and len(rows) < 1_000 + ranks
    needed = [(lengths[batch].max() + 20) * batch.shape[1] for batch in batches]
    assert batches[0].shape == (ranks, 32) and max(needed) == needed[0] and len(batches) < 1_000 / 32 / ranks
    assert all(batch.shape[1] > 32 for batch in batches[1:-1] if lengths[batch].max() < 110)
    assert all(
        lengths[one].min() >= lengths[two].max() for one, two in zip(batches, batches[1:], strict=False)
    )


def test_a_users_number_of_rows_is_the_most() -> None:
    shapes = [batch.shape for batch in packed_batches(np.arange(10, 30), 2, 4, 20)]
    assert shapes == [(2, 4), (2, 4), (2, 2)]
    assert [batch.tolist() for batch in packed_batches(np.array([3, 9, 5]), 2, 4, 0)] == [[[1, 2], [0, 0]]]
