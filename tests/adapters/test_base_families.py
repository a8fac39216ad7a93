"""T5 v1.1, mT5, umT5 and ByT5 as base models; other architectures are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from base_families import FAMILIES, edit, make_family
from safetensors.torch import load_file, save_file
from trained_models import batch, make_adapter, make_base, settings
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5Config

from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.adapters.bases.published import published_t5
from hyperformer.adapters.build import build_model
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.parameters import count_config
from hyperformer.adapters.save import load_adapter
from hyperformer.adapters.trained_model import load_model, load_trained
from hyperformer.commands.convert import to_theirs
from hyperformer.commands.export import export_task
from hyperformer.commands.predict import Predictor
from hyperformer.errors import CheckpointError
from hyperformer.settings.config_files import ConfigWarning
from launchers.submit.preflight import base_findings


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for family in FAMILIES:
        make_family(folder / family, family)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_it_computes_what_transformers_does(bases: Path, family: str) -> None:
    base = str(bases / family)
    stock = AutoModelForSeq2SeqLM.from_pretrained(base).eval()
    assert type(stock) is FAMILIES[family][1]
    if family == "umt5":
        # transformers scales the logits where this is true, and makes it true whatever the config says.
        assert stock.config.tie_word_embeddings
        stock.config.tie_word_embeddings = False
    model = build_model(settings(base, "none")).eval()
    rows = batch(model.config.vocab_size)
    assert torch.equal(model(**rows).logits, stock(**rows).logits)
    assert {name: p.shape for name, p in model.named_parameters()} == {
        name: p.shape for name, p in stock.named_parameters()
    }
    assert count_config(settings(base, "none")).total == sum(p.numel() for p in stock.parameters())
    found = model.generate(rows["input_ids"], max_length=9, num_beams=2)
    assert torch.equal(found, stock.generate(rows["input_ids"], max_length=9, num_beams=2))
    # A plain folder of the family is a whole model, too.
    assert torch.equal(load_model(base)(**rows).logits, model(**rows).logits)


@pytest.mark.parametrize(
    ("family", "random_init"), [*((family, False) for family in FAMILIES), ("umt5", True)]
)
def test_adapters_are_saved_exported_and_answer(
    bases: Path, family: str, random_init: bool, tmp_path: Path
) -> None:
    model = make_adapter(
        tmp_path / "adapter", str(bases / family), "hypernetwork_shared", random_init=random_init
    )
    assert model.has_own_lm_head and not model.config.scale_decoder_outputs
    rows = batch(model.config.vocab_size)
    expected = model(**rows, task="mrpc").logits

    def same(other: HyperformerT5) -> None:
        torch.testing.assert_close(other.eval()(**rows, task="mrpc").logits, expected, atol=1e-4, rtol=1e-5)

    same(load_adapter(tmp_path / "adapter"))
    model.save_pretrained(tmp_path / "whole")
    AutoTokenizer.from_pretrained(bases / family).save_pretrained(tmp_path / "whole")
    same(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "whole"))
    sources = ["the men gave cars", "café, ½ and 是"]
    for name in ("adapter", "whole"):
        export_task(tmp_path / name, "mrpc", tmp_path / f"{name}-mrpc")
        same(load_trained(tmp_path / f"{name}-mrpc").model)
    answers = [
        Predictor(load_trained(tmp_path / name), "mrpc").answers(sources)
        for name in ("adapter", "whole-mrpc")
    ]
    assert answers[0] == answers[1]
    # Token by token, with the keys and values of earlier tokens: the same positions.
    rows["decoder_input_ids"] = model.generate(rows["input_ids"], task="mrpc", max_length=9, min_length=9)
    steps = model(**rows, task="mrpc").logits[:, :-1]
    steps[..., model.config.eos_token_id] = -torch.inf
    assert torch.equal(steps.argmax(-1)[:, :-1], rows["decoder_input_ids"][:, 1:-1])


def test_a_position_bias_per_layer_trains(bases: Path) -> None:
    model = build_model(settings(str(bases / "umt5"), "none", gradient_checkpointing=True)).train()
    rows = batch(model.config.vocab_size)
    model(input_ids=rows["input_ids"], labels=rows["input_ids"]).loss.backward()
    biases = [p for name, p in model.named_parameters() if "relative_attention_bias" in name]
    assert len(biases) == 6 and all(p.grad is not None and p.grad.any() for p in biases)


def test_an_umt5_is_no_checkpoint_of_the_authors(bases: Path, tmp_path: Path) -> None:
    build_model(settings(str(bases / "umt5"), "task")).save_pretrained(tmp_path / "whole")
    with pytest.raises(CheckpointError, match="position bias in every layer"):
        to_theirs(tmp_path / "whole", tmp_path / "theirs")


class TestWhatDoesNotFitTogether:
    def test_weights_of_another_architecture(self, bases: Path, tmp_path: Path) -> None:
        """umT5's weights under a T5's config: without its biases it would compute something else."""
        base = Path(make_family(tmp_path / "umt5", "umt5"))
        edit(base / "config.json", model_type="t5")
        with pytest.raises(CheckpointError, match="have 4 for which its config.json has no place"):
            build_model(settings(str(base), "none"))

    def test_weights_of_other_shapes(self, tmp_path: Path) -> None:
        base = Path(make_base(tmp_path / "t5"))
        edit(base / "config.json", vocab_size=99)
        for load in (lambda: build_model(settings(str(base), "none")), lambda: load_model(base)):
            with pytest.raises(
                CheckpointError, match=r"has shape \(161, 32\), and the config asks for \(99, 32\)"
            ):
                load()

    def test_a_folder_that_is_no_base_model(self, tmp_path: Path) -> None:
        """transformers takes the default T5 for a folder without config.json; at random it would be trained."""
        for name in ("nothing", "run"):
            (tmp_path / name).mkdir()
        (tmp_path / "run" / "config.json").write_text('{"signature": "", "settings": {}}')
        for name in ("nothing", "run"):
            with pytest.raises(CheckpointError, match="has no config.json that says its model_type"):
                build_model(settings(str(tmp_path / name), "none", random_init=True))
        (tmp_path / "run" / "adapter").mkdir()
        (tmp_path / "run" / "adapter" / "hyperformer_adapter.json").write_text("{}")
        for path in (tmp_path / "run", tmp_path / "run" / "adapter"):
            with pytest.raises(CheckpointError, match=f"Name that T5, and write init_from={path}"):
                build_model(settings(str(path), "none", random_init=True))
        (finding,) = base_findings(str(tmp_path / "run"))
        assert "init_from=" in finding.text

    def test_logits_scaled_or_not(self, tmp_path: Path) -> None:
        base = Path(make_family(tmp_path / "v1_1", "v1_1"))
        edit(base / "config.json", tie_word_embeddings=None, scale_decoder_outputs=True)
        with pytest.warns(ConfigWarning, match="scale_decoder_outputs.*false"):
            assert build_model(settings(str(base), "none")).config.scale_decoder_outputs
        with pytest.warns(ConfigWarning, match="scale_decoder_outputs.*false"):
            assert load_model(base).config.scale_decoder_outputs
        weights = load_file(base / "model.safetensors")
        del weights["lm_head.weight"]
        save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
        edit(base / "config.json", tie_word_embeddings=False, scale_decoder_outputs=None)
        with pytest.warns(ConfigWarning, match="its lm_head.weight got lost"):
            assert not load_model(base).has_own_lm_head
        config_class, model_class = FAMILIES["umt5"]
        model = model_class(
            config_class(vocab_size=384, d_model=16, d_kv=4, d_ff=8, num_heads=2, num_layers=1)
        )
        model.save_pretrained(tmp_path / "tied")  # as transformers makes one
        with pytest.raises(CheckpointError, match='write "scale_decoder_outputs": true'):
            build_model(settings(str(tmp_path / "tied"), "none"))
        edit(tmp_path / "tied" / "config.json", scale_decoder_outputs=True)
        ours, rows = build_model(settings(str(tmp_path / "tied"), "none")).eval(), batch(384)
        assert torch.equal(ours(**rows).logits, model.eval()(**rows).logits)

    def test_the_tokenizer_of_another_family(self, bases: Path, tmp_path: Path) -> None:
        base = Path(make_base(tmp_path / "t5"))
        model = settings(str(base), "none").model
        assert load_tokenizer(model)
        edit(base / "config.json", eos_token_id=2)
        with pytest.raises(CheckpointError, match=r"the T5 knows the end of a text by 2 \(eos_token_id\)"):
            load_tokenizer(model)
        edit(base / "config.json", eos_token_id=1, pad_token_id=3)
        with pytest.raises(CheckpointError, match="pads with 0, and the T5 with 3"):
            load_tokenizer(model)


OTHERS = {
    "longt5": "larger max_source_length",
    "bart": "google/flan-t5-base",
    "mbart": "google/mt5-base",
    "switch_transformers": "google/t5-v1_1-base",
    "t5gemma": "google/flan-t5-base",
    "llama": "google/flan-t5-base",
    None: "google/flan-t5-base",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures_are_refused(
    kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.dumps({"model_type": kind, "vocab_size": 384})
    (tmp_path / "config.json").write_text(content)
    config = settings(str(tmp_path), "none")
    told = f"is a {kind} model" if kind else "has no config.json that says its model_type"
    for load in (
        lambda: build_model(config),
        lambda: count_config(config),
        lambda: load_tokenizer(config.model),
    ):
        with pytest.raises(CheckpointError, match=f"{told}.*umT5.*{OTHERS[kind]}"):
            load()
    with pytest.raises(CheckpointError, match="is a|is no model"):
        load_model(tmp_path)
    # Before anything is queued: a folder, and a name that the hub's cache has.
    (finding,) = base_findings(str(tmp_path))
    assert told in finding.text and finding.name is None
    snapshot = tmp_path / "hub/models--some--model/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(content)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (finding,) = base_findings("some/model")
    assert f"'some/model' {told}" in finding.text


def test_the_preflight_knows_what_works(bases: Path, tmp_path: Path) -> None:
    for name in ("toy", "nobody/knows", *(str(bases / family) for family in FAMILIES)):
        assert not [*base_findings(name)]
    (finding,) = base_findings(str(tmp_path))
    assert "has no config.json" in finding.text


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("google/t5-v1_1-small", 76_961_152),
        ("google/flan-t5-base", 247_577_856),
        ("google/mt5-small", 300_176_768),
        ("google/umt5-small", 306_601_984),
        ("google/byt5-small", 299_637_760),
    ],
)
def test_published_sizes(name: str, parameters: int) -> None:
    """The numbers of weights in the published files."""
    assert isinstance(published_t5(name), T5Config)
    assert count_config(settings(name, "none")).t5 == parameters
