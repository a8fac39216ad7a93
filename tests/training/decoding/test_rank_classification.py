"""Answers by rank: the labels' probabilities, and who may be answered so."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from places import FIXTURES
from trained_models import TASKS, make_adapter, make_base
from transformers import T5Tokenizer

from hyperformer.adapters.methods import METHODS
from hyperformer.adapters.model import HyperformerT5
from hyperformer.data.dataset import Ragged, TokenizedSplit
from hyperformer.data.tasks import TASKS as TABLE
from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.settings.build import make_config, replace
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.signature import signature
from hyperformer.training.decoding import rank_classification
from hyperformer.training.decoding.rank_classification import best_labels, check_decode, label_scores
from hyperformer.training.evaluation import Decoding, Evaluator
from hyperformer.training.ranks.distributed import DistributedContext

ALONE = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def tokenizer() -> T5Tokenizer:
    return T5Tokenizer.from_pretrained(str(FIXTURES / "reference" / "e2e"))


@pytest.fixture(scope="module", params=[*METHODS, "cross_attention_bias"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    folder = tmp_path_factory.mktemp("model")
    if request.param != "cross_attention_bias":
        return make_adapter(folder / "adapter", make_base(folder / "t5"), request.param)
    trained = make_adapter(folder / "adapter", make_base(folder / "t5"))
    config = copy.deepcopy(trained.config)
    config.cross_attention_bias = True
    old = HyperformerT5(config).eval()
    old.load_state_dict(trained.state_dict(), strict=False)
    torch.nn.init.normal_(old.decoder.block[0].layer[1].EncDecAttention.relative_attention_bias.weight)
    return old


def sources(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of different length, padded."""
    ids = torch.randint(3, 100, (count, 8), generator=torch.Generator().manual_seed(0))
    lengths = torch.arange(count) % 5 + 3
    mask = (torch.arange(8) < lengths[:, None]).long()
    return ids * mask, mask


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_those_of_each_label_by_itself(
    task: str, model: torch.nn.Module, tokenizer: T5Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the labels need several forwards."""
    ids, mask = sources()
    scores = label_scores(model, TABLE[task], tokenizer, ids, mask)
    monkeypatch.setattr(rank_classification, "TARGET_TOKENS", 16)
    assert torch.allclose(scores, label_scores(model, TABLE[task], tokenizer, ids, mask), rtol=0, atol=1e-4)
    labels = TABLE[task].labels
    assert labels is not None and scores.shape == (5, len(labels))
    for number, label in enumerate(labels):
        answer = torch.tensor(tokenizer([label])["input_ids"]).repeat(len(ids), 1)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, labels=answer, task=task).logits
        expected = logits.log_softmax(-1).gather(-1, answer.unsqueeze(-1)).sum(dim=(1, 2))
        assert torch.allclose(scores[:, number], expected, rtol=0, atol=1e-4)
    row, length = 1, int(mask[1].sum())
    alone = label_scores(
        model, TABLE[task], tokenizer, ids[row : row + 1, :length], mask[row : row + 1, :length]
    )
    assert torch.allclose(scores[row : row + 1], alone, rtol=0, atol=1e-4)


def test_predict_by_rank_gives_valid_answers_in_order(model: torch.nn.Module, tokenizer: T5Tokenizer) -> None:
    ids, mask = sources(7)
    rows = [row[keep.bool()].numpy() for row, keep in zip(ids, mask, strict=True)]
    source = Ragged(np.concatenate(rows), np.asarray([len(row) for row in rows]))
    split = TokenizedSplit(source, source, [""] * 7, 0, 0, fingerprint="")
    answers = Evaluator(model, tokenizer, ALONE, 3, Decoding("rank")).answers(TABLE["stsb"], split)
    assert {answer.text for answer in answers} <= set(TABLE["stsb"].labels or ())
    alone = best_labels(model, TABLE["stsb"], tokenizer, ids, mask)
    assert [answer.text for answer in answers] == [answer.text for answer in alone]
    # Random weights write nothing valid by themselves.
    written = Evaluator(model, tokenizer, ALONE, 3).answers(TABLE["stsb"], split)
    assert not {answer.text for answer in written} <= set(TABLE["stsb"].labels or ())


def test_a_score_that_is_no_number_is_an_error(tokenizer: T5Tokenizer, tmp_path: Path) -> None:
    broken = make_adapter(tmp_path / "adapter", make_base(tmp_path / "t5"), "task")
    broken.shared.weight.data.fill_(float("nan"))
    with pytest.raises(HyperformerError, match="not a number"):
        best_labels(broken, TABLE["cola"], tokenizer, *sources())


def test_tasks_without_labels() -> None:
    tasks = [TABLE["cola"], TABLE["wmt16-ro-en"]]
    check_decode(tasks, "generate")
    check_decode(tasks[:1], "rank")
    with pytest.raises(ConfigError, match="wmt16-ro-en has none"):
        check_decode(tasks, "rank")


def test_a_run_is_told_before_it_starts(tmp_path: Path) -> None:
    from hyperformer.run import run

    folder = tmp_path / "run"
    config = make_config({"tasks": ["cola", "wmt16-ro-en"], "decode": "rank", "output_dir": str(folder)})
    with pytest.raises(ConfigError, match="decode=rank"):
        run(config)
    assert not folder.exists()


def test_the_setting() -> None:
    assert RunConfig().training.decode == "generate"
    config, other = make_config({"decode": "rank"}), make_config({"decode": "constrained"})
    assert len({signature(config), signature(other), signature(RunConfig())}) == 3
    assert signature(replace(config, decode="generate")) == signature(RunConfig())
    with pytest.raises(ConfigError, match="one of generate, constrained, rank"):
        make_config({"decode": "beam"})
