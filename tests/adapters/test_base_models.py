"""Base models that differ from t5-small: an output layer of their own, settings and tokens that they bring along."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from base_families import edit
from trained_models import TASKS, batch, make_adapter, make_base, settings
from transformers import T5ForConditionalGeneration, T5Tokenizer

from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.adapters.build import build_model
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.parameters import count_config
from hyperformer.adapters.save import load_adapter
from hyperformer.adapters.trained_model import load_model, load_trained
from hyperformer.commands.convert import from_theirs, to_theirs
from hyperformer.commands.export import export_task
from hyperformer.commands.predict import Predictor
from hyperformer.errors import CheckpointError


def make_v1_1(folder: Path) -> str:
    """A T5 v1.1: an output layer of its own, and a gated feed-forward, as flan-T5 has them too."""
    make_base(folder, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model = T5ForConditionalGeneration.from_pretrained(folder)
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    model.save_pretrained(folder)
    # As published: today's transformers writes the one setting as the other.
    edit(folder / "config.json", tie_word_embeddings=False, scale_decoder_outputs=None)
    return str(folder)


class TestAnOutputLayerOfItsOwn:
    @pytest.fixture(scope="class")
    @classmethod
    def base(cls, tmp_path_factory: pytest.TempPathFactory) -> str:
        return make_v1_1(tmp_path_factory.mktemp("v1_1"))

    def same(self, one: HyperformerT5, other: HyperformerT5, task: str = "mrpc") -> None:
        rows = batch(one.config.vocab_size)
        logits, expected = one(**rows, task=task).logits, other(**rows, task=task).logits
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-5)
        assert one.has_own_lm_head and other.has_own_lm_head

    def test_it_is_loaded_and_counted(self, base: str) -> None:
        stock = T5ForConditionalGeneration.from_pretrained(base)
        size = sum(parameter.numel() for parameter in stock.parameters())
        model = build_model(settings(base, "none")).eval()
        assert torch.equal(
            model(**batch(model.config.vocab_size)).logits, stock(**batch(model.config.vocab_size)).logits
        )
        assert count_config(settings(base, "none")).total == count_config(settings(base, "task")).t5 == size
        assert "lm_head.weight" in dict(model.named_parameters())

    @pytest.mark.parametrize("random_init", [False, True])
    @pytest.mark.parametrize("kind", ["none", "task", "hypernetwork_shared"])
    def test_saved_exported_and_converted(
        self, base: str, kind: str, random_init: bool, tmp_path: Path
    ) -> None:
        model = make_adapter(tmp_path / "adapter", base, kind, random_init=random_init)
        assert not torch.equal(model.lm_head.weight, model.shared.weight)
        self.same(load_adapter(tmp_path / "adapter"), model)
        model.save_pretrained(tmp_path / "whole")
        self.same(load_model(tmp_path / "whole"), model)
        if kind != "none":
            for name in ("adapter", "whole"):
                export_task(tmp_path / name, "mrpc", tmp_path / f"{name}-mrpc")
                self.same(load_trained(tmp_path / f"{name}-mrpc").model, model)
        to_theirs(tmp_path / "whole", tmp_path / "theirs")
        assert json.loads((tmp_path / "theirs" / "config.json").read_text())["tie_word_embeddings"] is False
        values = {name: value for name, value in model.config.adapter_settings.items() if value is not None}  # type: ignore[union-attr]
        (tmp_path / "train.json").write_text(json.dumps({"tasks": TASKS, **values}))
        self.same(from_theirs(tmp_path / "theirs", tmp_path / "train.json", tmp_path / "back"), model)

    def test_tying_again_leaves_it_alone(self, base: str) -> None:
        model = build_model(settings(base, "task")).eval()
        other = copy.deepcopy(model)
        other.tie_weights()
        self.same(other, model)
        assert other.encoder.embed_tokens.weight is other.shared.weight


# Settings of generation with values that change answers, where they count.
GENERATION: dict[str, Any] = {
    "max_length": 2, "max_new_tokens": 1, "min_length": 9, "min_new_tokens": 9, "do_sample": True, "num_beams": 3,
    "num_return_sequences": 2, "temperature": 9.0, "top_k": 1, "top_p": 0.01, "repetition_penalty": 9.0,
    "length_penalty": -9.0, "early_stopping": True, "no_repeat_ngram_size": 1, "encoder_no_repeat_ngram_size": 1,
    "encoder_repetition_penalty": 9.0, "forced_bos_token_id": 5, "forced_eos_token_id": 6,
    "bad_words_ids": [[token] for token in range(3, 90)], "suppress_tokens": list(range(3, 90)),
    "begin_suppress_tokens": list(range(3, 90)), "sequence_bias": [[[7], 99.0]],
    "exponential_decay_length_penalty": [1, 9.0], "num_beam_groups": 2, "diversity_penalty": 1.0,
    "eos_token_id": 7, "pad_token_id": 8, "decoder_start_token_id": 9, "stop_strings": ["a"],
    "renormalize_logits": True,
    "output_scores": True, "return_dict_in_generate": True, "use_cache": False, "prompt_lookup_num_tokens": 2,
    "guidance_scale": 3.0, "penalty_alpha": 0.9, "max_time": 0.0, "typical_p": 0.1, "epsilon_cutoff": 0.9,
}  # fmt: skip
# These three are T5's own where they stand in config.json.
TOKENS = ("eos_token_id", "pad_token_id", "decoder_start_token_id")


class TestGenerationSettingsOfTheBase:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """t5/ and adapter/ on it."""
        path = tmp_path_factory.mktemp("generation")
        make_adapter(path / "adapter", make_v1_1(path / "t5"))
        return path

    @pytest.fixture(autouse=True)
    def restored(self, folder: Path) -> Iterator[None]:
        files = [folder / "t5" / name for name in ("config.json", "generation_config.json")]
        before = [path.read_text() for path in files]
        yield
        for path, text in zip(files, before, strict=True):
            path.write_text(text)

    def generated(self, folder: Path, kind: str = "task") -> list[list[int]]:
        """What a model that is built as for a run generates."""
        torch.manual_seed(1)
        model = build_model(settings(str(folder / "t5"), kind, random_init=kind == "none")).eval()
        sources = batch(model.config.vocab_size, rows=2)["input_ids"]
        return model.generate(input_ids=sources, task="mrpc", max_length=12, do_sample=False).tolist()

    @pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
    def test_they_decide_nothing_in_a_run(self, folder: Path, file: str) -> None:
        path = folder / "t5" / file
        before, expected = path.read_text(), self.generated(folder)
        names = [name for name in GENERATION if name not in TOKENS or file == "generation_config.json"]
        for start in range(5):
            some = {name: GENERATION[name] for name in names[start::5]}
            path.write_text(before)
            edit(path, **some)
            assert self.generated(folder) == expected, some

    def test_all_together_decide_nothing(self, folder: Path) -> None:
        def answers() -> list[Any]:
            sources = ["the men gave cars", "he was there"]
            predicted = [
                Predictor(load_trained(folder / name), "mrpc").answers(sources) for name in ("adapter", "t5")
            ]
            return [*predicted, self.generated(folder), self.generated(folder, "none")]

        expected = answers()
        edit(folder / "t5" / "generation_config.json", **GENERATION)
        edit(folder / "t5" / "config.json", **{k: v for k, v in GENERATION.items() if k not in TOKENS})
        assert answers() == expected
        # Of the config alone, transformers makes generation settings too.
        (folder / "t5" / "generation_config.json").unlink()
        assert answers() == expected
        (folder / "t5" / "generation_config.json").write_text("{}")

    def test_they_would(self, folder: Path) -> None:
        """The values above change what stock T5 generates."""
        model = T5ForConditionalGeneration.from_pretrained(folder / "t5").eval()
        sources = batch(model.config.vocab_size, rows=2)["input_ids"]
        expected = model.generate(input_ids=sources, max_length=12).tolist()
        for name in ("max_new_tokens", "forced_bos_token_id", "suppress_tokens", "bad_words_ids", "eos_token_id",
                     "no_repeat_ngram_size", "repetition_penalty", "num_return_sequences"):  # fmt: skip
            changed = GENERATION[name]
            more = {"num_beams": 3} if name == "num_return_sequences" else {}
            assert (
                model.generate(input_ids=sources, max_length=12, **more, **{name: changed}).tolist()
                != expected
            ), name


class TestTokensOfTheBase:
    def test_no_decoder_start_token(self, tmp_path: Path) -> None:
        """T5 starts with the padding token; not every config says so."""
        base = Path(make_base(tmp_path / "t5"))
        expected = build_model(settings(str(base), "none")).eval()
        sources = batch(expected.config.vocab_size)["input_ids"]
        for name in ("config.json", "generation_config.json"):
            edit(base / name, decoder_start_token_id=None)
        for model in (build_model(settings(str(base), "none")).eval(), load_model(base)):
            found = model.generate(input_ids=sources, max_length=8)
            assert torch.equal(found, expected.generate(input_ids=sources, max_length=8))
            loss = model(input_ids=sources, labels=sources).loss
            assert torch.equal(loss, expected(input_ids=sources, labels=sources).loss)

    def test_no_padding_token(self, tmp_path: Path) -> None:
        base = Path(make_base(tmp_path / "t5"))
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
        with pytest.raises(CheckpointError, match="has no pad_token_id; T5's is 0"):
            build_model(settings(str(base), "none"))

    def test_a_tokenizer_larger_than_the_embeddings(self, tmp_path: Path) -> None:
        base = make_base(tmp_path / "t5")
        tokenizer = T5Tokenizer.from_pretrained(base)
        size = len(tokenizer)
        tokenizer.add_tokens(["<new>", "<newer>"])
        tokenizer.save_pretrained(tmp_path / "larger")
        config = settings(base, "none", tokenizer_name=str(tmp_path / "larger"))
        with pytest.raises(
            CheckpointError, match=f"{size + 2:,} tokens, and the T5 has embeddings of {size:,}"
        ):
            load_tokenizer(config.model)
        tokenizer.save_pretrained(base)
        with pytest.raises(CheckpointError, match="call resize_token_embeddings"):
            Predictor(load_trained(base), "mrpc")
        # What the message says.
        model = T5ForConditionalGeneration.from_pretrained(base)
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(base)
        assert len(load_tokenizer(config.model)) == size + 2
        assert Predictor(load_trained(base), "mrpc").answers(["<new> text"])

    def test_a_folder_without_a_tokenizer(self, tmp_path: Path) -> None:
        """transformers would read each word of it as unknown."""
        base = make_base(tmp_path / "t5")
        for path in Path(base).glob("tokenizer*"):
            path.unlink()
        with pytest.raises(
            CheckpointError, match="knows no text.*tokenizer.json or spiece.model.*tokenizer_name"
        ):
            load_tokenizer(settings(base, "none").model)

    def test_a_tokenizer_of_another_kind_of_model(self, tmp_path: Path) -> None:
        base = make_base(tmp_path / "t5")
        tokenizer = T5Tokenizer.from_pretrained(base)
        tokenizer.pad_token = None
        tokenizer.save_pretrained(tmp_path / "other")
        with pytest.raises(CheckpointError, match="is not one for T5"):
            load_tokenizer(settings(base, "none", tokenizer_name=str(tmp_path / "other")).model)
