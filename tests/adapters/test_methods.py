"""The tuning methods: one table, and as many parameters as their papers count."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from places import ROOT
from trained_models import TASKS, batch, make_adapter, make_base, settings
from transformers import T5Config

from hyperformer.adapters.build import build_model
from hyperformer.adapters.methods import METHODS
from hyperformer.adapters.methods.compacter import kronecker_sum
from hyperformer.adapters.methods.method import Sizes
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.parameters import count_config
from hyperformer.adapters.save import load_adapter
from hyperformer.commands.export import export_task
from hyperformer.errors import ConfigError
from hyperformer.settings.build import make_config
from hyperformer.settings.config_files import SHIPPED, load_config
from hyperformer.settings.methods import METHOD_OPTIONS
from hyperformer.settings.methods import METHODS as FACTS
from hyperformer.settings.schema import AdapterConfig
from hyperformer.settings.values import settings as known_settings

# Layers differ in number, and every width that a formula could confuse with another.
T5 = dict(vocab_size=96, d_model=32, d_kv=6, d_ff=48, num_layers=2, num_decoder_layers=3, num_heads=4)
OPTIONS = {
    "reduction_factor": 4,
    "task_embedding_dim": 12,
    "projected_task_embedding_dim": 6,
    "task_hidden_dim": 10,
    "vera_rank": 5,
}


def make(kind: str, t5: T5Config | None = None, **more: object) -> HyperformerT5:
    used = {key: value for key, value in OPTIONS.items() if key in FACTS[kind].options}
    with torch.device("meta"):
        return build_model(
            make_config({"tasks": TASKS, "adapter": kind, **used, **more}), t5=t5 or T5Config(**T5)
        )


def added(model: HyperformerT5) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if model.method.t5_name(name) is None)


def test_settings_and_adapters_know_the_same_methods() -> None:
    assert list(METHODS) == list(FACTS)
    owned = {name for name, entry in known_settings().items() if entry.section == "adapter"} - {"adapter"}
    assert owned <= METHOD_OPTIONS <= known_settings().keys()
    assert all(facts.words and facts.source for facts in FACTS.values())


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("names", [None, ["a", "b", "a"]], ids=["each", "shared"])
@pytest.mark.parametrize("turned", [False, True], ids=["default", "turned"])
def test_as_many_parameters_as_the_formula_says(kind: str, names: list[str] | None, turned: bool) -> None:
    facts = FACTS[kind]
    if facts.extra:
        pytest.importorskip(facts.extra, reason="it is an extra")
    if names and not facts.task_rows:
        return
    more: dict[str, object] = {facts.task_rows: names} if names else {}
    if turned:  # every switch of the method, the other way
        switches = {name for name in facts.options if isinstance(known_settings()[name].default, bool)}
        more |= {name: not known_settings()[name].default for name in switches}
        if "projected_task_embedding_dim" in facts.options:
            more["projected_task_embedding_dim"] = OPTIONS["task_embedding_dim"]
    model = make(kind, **more)
    sizes = Sizes(32, {"encoder": 2, "decoder": 3}, tasks=2 if names else 3, inner=24, feed_forward=48)
    assert added(model) == model.method.count(model.config.adapter_config, sizes)


@pytest.mark.parametrize(
    ("config", "percent"),
    [("adapters", 0.832), ("pfeiffer", 0.427), ("compacter", 0.073), ("compacter++", 0.047)],
)
def test_as_many_parameters_as_in_the_table_of_the_compacter_paper(config: str, percent: float) -> None:
    """Karimi Mahabadi, Henderson, Ruder, NeurIPS 2021, table 1: T5-base, one task, T5's layer norms included."""
    overrides = ["tasks=cola", "reduction_factor=32", "add_layer_norm_after_adapter=false"]
    count = count_config(load_config(config, overrides[: 3 if config == "adapters" else 1]))
    assert round(count.trained_percent_per_task, 3) == percent


ROBERTA, LLAMA = Sizes(768, {"encoder": 12, "decoder": 0}, 1, 768, 3072), ("q", "k", "v", "wi", "wo")


@pytest.mark.parametrize(
    ("kind", "options", "sizes", "thousands"),
    [
        # Hu et al. 2022, table 4: GPT-3, 4.7 and 37.7 million.
        ("lora", {"lora_rank": 1}, Sizes(12_288, {"encoder": 96, "decoder": 0}, 1, 12_288), 4_718),
        ("lora", {"lora_rank": 8}, Sizes(12_288, {"encoder": 96, "decoder": 0}, 1, 12_288), 37_748),
        # Kopiczko et al. 2024, table 1: RoBERTa-base, LoRA's 36.8 and 589.8 thousand and VeRA's 18.4, 18.8 and 24.5.
        ("lora", {"lora_rank": 1}, ROBERTA, 36.8),
        ("lora", {"lora_rank": 16}, ROBERTA, 589.8),
        ("vera", {"vera_rank": 1}, ROBERTA, 18.4),
        ("vera", {"vera_rank": 16}, ROBERTA, 18.8),
        ("vera", {"vera_rank": 256}, ROBERTA, 24.5),
        # Liu et al. 2022, table 4: T0-3B, 540 thousand.
        ("ia3", {}, Sizes(2048, {"encoder": 24, "decoder": 24}, 1, 2048, 5120), 540),
        # Lester et al. 2021, figure 2: T5-XXL, five tokens, 20,480.
        ("prompt_tuning", {"virtual_tokens": 5}, Sizes(4096, {"encoder": 24, "decoder": 24}, 1), 20.4),
    ],
)
def test_as_many_parameters_as_each_paper_says(
    kind: str, options: dict[str, int], sizes: Sizes, thousands: float
) -> None:
    """The papers cut what follows the digit that they give."""
    found = METHODS[kind].count(AdapterConfig(adapter=kind, **options), sizes)
    digit = 10 if isinstance(thousands, float) else 1
    assert found * digit // 1000 == round(thousands * digit)


def test_doras_share_is_the_papers() -> None:
    """Liu et al. 2024: LLaMA-7B (6,738,415,616 parameters), rank 32 on q, k, v, up and down: LoRA 0.83%, DoRA 0.84%."""
    sizes = Sizes(4096, {"encoder": 32, "decoder": 0}, 1, 4096, 11_008)
    for kind, percent in (("lora", 0.83), ("dora", 0.84)):
        added = METHODS[kind].count(AdapterConfig(adapter=kind, lora_rank=32, target_modules=LLAMA), sizes)
        assert round(100 * added / (6_738_415_616 + added), 2) == percent


def test_layer_norms_trains_these_alone_as_t5_has_no_biases() -> None:
    config = load_config("layer_norms")
    count = count_config(config)
    assert count.trained == 62 * 768 and config.task_prefix
    # Liu et al. 2022, table 4: 250 thousand for T0-3B.
    large = load_config("layer_norms", ["model_name_or_path=google/t5-xl-lm-adapt"])
    assert round(count_config(large).trained, -4) == 250_000
    assert not any(name.endswith("bias") for name, _ in make("none").named_parameters())


OURS = ["pfeiffer", "compacter", "compacter++", "hyperdecoder"]


def trained(base: str, kind: str, **more: object) -> HyperformerT5:
    torch.manual_seed(0)
    model = build_model(settings(base, kind, kronecker_terms=4, **more)).eval()
    for name, parameter in model.named_parameters():
        if name.startswith("adapters."):  # at the start they hardly matter
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("t5"), num_decoder_layers=3)


@pytest.mark.parametrize("kind", OURS)
def test_a_mixed_batch_equals_its_rows_and_every_parameter_gets_a_gradient(kind: str, base: str) -> None:
    model = trained(base, kind, parallel_feed_forward_adapter=kind == "hyperdecoder")
    rows = batch(model.config.vocab_size)
    rows["attention_mask"][1, 4:] = 0
    ids = torch.tensor([2, 0, 1, 0])
    mixed = model(**rows, task_ids=ids).logits
    sources = {name: rows[name] for name in ("input_ids", "attention_mask")}
    options = {"max_length": 6, "min_length": 6, "do_sample": False, "num_beams": 2}
    answers = model.generate(**sources, task_ids=ids, **options)
    for number, task in enumerate(ids.tolist()):
        row = {name: value[number : number + 1] for name, value in rows.items()}
        alone = model(**row, task=TASKS[task]).logits
        torch.testing.assert_close(mixed[number : number + 1], alone, atol=1e-5, rtol=1e-5)
        one = {name: row[name] for name in sources}
        assert torch.equal(model.generate(**one, task=TASKS[task], **options), answers[number : number + 1])
    # ZeRO stage 3 would step a parameter without a gradient by that of an earlier step.
    model(**rows, task="cola").logits.square().mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(bool(p.grad.any()) for n, p in model.named_parameters() if n.startswith("adapters."))  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", OURS)
def test_a_saved_adapter_computes_the_same_and_is_exported_where_it_can_be(
    kind: str, base: str, tmp_path: Path
) -> None:
    model = make_adapter(tmp_path / "adapter", base, kind)
    rows = batch(model.config.vocab_size)
    told = {} if kind == "hyperdecoder" else {"task": "stsb"}
    expected = model(**rows, **told).logits
    loaded = load_adapter(tmp_path / "adapter")
    torch.testing.assert_close(loaded(**rows, **told).logits, expected, atol=1e-5, rtol=0)
    assert FACTS[kind].words in (tmp_path / "adapter" / "README.md").read_text()
    if kind == "hyperdecoder":
        with pytest.raises(ConfigError, match="hyperdecoder.*no static weights"):
            export_task(tmp_path / "adapter", "stsb", tmp_path / "out")
        return
    export_task(tmp_path / "adapter", "stsb", tmp_path / "out")
    static = load_adapter(tmp_path / "out")
    assert static.config.adapter_config.adapter == ("task" if kind == "compacter" else "pfeiffer")
    torch.testing.assert_close(static(**rows, task="stsb").logits, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", OURS)
def test_at_the_start_t5_computes_nearly_what_it_did(kind: str, base: str) -> None:
    torch.manual_seed(0)
    rows = batch(32)
    with torch.no_grad():
        plain = build_model(settings(base, "none")).eval()(**rows).logits
        model = build_model(settings(base, kind, add_layer_norm_after_adapter=False)).eval()
        logits = model(**rows, task="cola").logits
    assert 0 < float((logits - plain).norm() / plain.norm()) < 0.01


def test_a_kronecker_sum_is_that_of_torch() -> None:
    factors, own = torch.randn(3, 3, 3), torch.randn(5, 3, 4, 2)
    expected = torch.stack(
        [sum(torch.kron(f, o) for f, o in zip(factors, site, strict=True)).T for site in own]
    )
    torch.testing.assert_close(kronecker_sum(factors, own), expected)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (
            {"adapter": "hyperdecoder", "init_from": "r", "init_tasks": {"cola": "rte"}},
            "no weights of a single task",
        ),
        (
            {"adapter": "hyperdecoder", "adapters": ["a", "a", "b"]},
            "adapters is .*, but adapter is hyperdecoder, which does not use it",
        ),
        (
            {"adapter": "compacter", "task_embeddings": ["a", "a", "b"]},
            "adapter is compacter, which does not",
        ),
        (
            {"adapter": "pfeiffer", "task_embedding_dim": 8},
            "does not use it; its options are reduction_factor",
        ),
        ({"adapter": "task", "task_embeddings": ["a", "a", "b"]}, "adapter is task, which does not use it"),
        ({"adapter": "compacters"}, "one of none, task, pfeiffer, compacter"),
    ],
)
def test_what_a_method_does_not_have_is_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make_config({"tasks": TASKS, **values})


@pytest.mark.parametrize(("terms", "what"), [(3, "bottleneck of 8"), (16, "bottleneck of 8")])
def test_kronecker_terms_that_do_not_divide_are_refused(terms: int, what: str) -> None:
    with pytest.raises(ConfigError, match=f"kronecker_terms is {terms}.*{what}.*divisor"):
        make("compacter", kronecker_terms=terms)


# Each config that is a method: others are the same method with other settings.
SHOWN = sorted(
    path.stem
    for path in SHIPPED.glob("*.json")
    if path.stem not in ("adapters", "finetune_single_task")
    and not FACTS[load_config(path.stem).adapter.adapter].extra
)


def test_the_page_has_every_method_with_its_source_and_count() -> None:
    lines = [
        "| config | `adapter` | what it is | from | trained per task |",
        "| --- | --- | --- | --- | ---: |",
    ]
    for name in SHOWN:
        config = load_config(name)
        facts, count = FACTS[config.adapter.adapter], count_config(config)
        share = f"{count.trained / 8:,.0f} ({count.trained_percent_per_task:.3f}%)"
        lines.append(f"| `{name}` | `{config.adapter.adapter}` | {facts.words} | {facts.source} | {share} |")
    page, table = ROOT / "docs" / "methods.md", "\n".join(lines)
    before, start, rest = page.read_text().partition("HYPERFORMER_RENEW=1 -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if os.environ.get("HYPERFORMER_RENEW"):
        page.write_text(f"{before}{start}{table}\n{end}{after}")
    assert table in page.read_text(), "HYPERFORMER_RENEW=1 writes the table"
    others = {load_config(path.stem).adapter.adapter for path in SHIPPED.glob("*.json")}
    assert FACTS.keys() - others == {"hypernetwork_per_block_type"}
