"""Pre-training: interrupted and resumed, continued from a T5, and kept from writing over something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import T5ForConditionalGeneration

from hyperformer import pretrain
from hyperformer.adapters.bases.families import TOY_FOLDER
from hyperformer.data.toy import Passage
from hyperformer.errors import ConfigError, DataError
from hyperformer.pretraining import span_corruption
from hyperformer.pretraining.options import make_parser


def run(output: Path, *more: str) -> None:
    options = [
        *("--text", "toy", "--toy-lines", "300", "--tokenizer", str(TOY_FOLDER), "--d-model", "16"),
        *("--d-ff", "16", "--num-layers", "1", "--num-heads", "2", "--length", "24", "--batch-size", "4"),
        *("--steps", "6", "--save-every", "2", "--log-every", "6", "--output", str(output), *more),
    ]
    pretrain.pretrain(make_parser(None).parse_args(options))


def test_it_resumes_bit_identical_and_writes_over_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "whole")
    saves = []

    def killed(model: object, args: object) -> None:
        saves.append(1)
        if len(saves) == 2:
            raise KeyboardInterrupt
        save(model, args)

    save = pretrain._save
    monkeypatch.setattr(pretrain, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="other settings .seed was 0."):
        run(tmp_path / "cut", "--seed", "1")
    capsys.readouterr()
    run(tmp_path / "cut")
    assert "resumes at step 4" in capsys.readouterr().out
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)
    with pytest.raises(ConfigError, match="has ended"):
        run(tmp_path / "cut")

    run(tmp_path / "gated", "--v1-1")
    saved = load_file(tmp_path / "gated" / "model.safetensors")
    gated = T5ForConditionalGeneration.from_pretrained(tmp_path / "gated")
    assert gated.config.is_gated_act and not gated.config.scale_decoder_outputs
    assert torch.equal(gated.lm_head.weight, saved["lm_head.weight"])
    assert not torch.equal(gated.lm_head.weight, gated.shared.weight)
    with pytest.raises(ConfigError, match="--v1-1: leave it out"):
        run(tmp_path / "other", "--start-from", str(tmp_path / "whole"), "--v1-1")
    assert not (tmp_path / "other").exists()
    run(tmp_path / "more", "--start-from", str(tmp_path / "whole"), "--d-model", "64")
    assert load_file(tmp_path / "more" / "model.safetensors")["shared.weight"].shape[1] == 16


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds thesis.tex, which is not ours"):
        run(tmp_path)


def test_remarks_are_asked_for_and_rows_of_any_length_are_padded() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOY_FOLDER)
    passages = [
        Passage("The film was great and the music was lovely.", "I liked it."),
        Passage("A boy eats a pear."),
    ]
    rows = span_corruption.passage_rows(passages, tokenizer, 64)
    batch = next(span_corruption.batches(rows, 2, tokenizer, np.random.default_rng(0)))
    inputs = [
        tokenizer.decode(ids[mask == 1])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    targets = [tokenizer.decode(ids[ids != -100]) for ids in batch["labels"]]
    assert [("I liked it." in text) for text in targets].count(True) == 1
    assert not any("liked" in text for text in inputs)
    assert len({len(row.tokens) for row in rows}) == 2 and batch["input_ids"].shape[0] == 2


def test_text_that_does_not_fill_a_batch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="makes 300 rows of 24 tokens, a batch has 301"):
        run(tmp_path / "out", "--batch-size", "301")
