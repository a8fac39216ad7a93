"""The tuning methods: one table, and as many parameters as their papers count."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config

from hyperformer.adapters.build import build_model
from hyperformer.adapters.methods import METHODS
from hyperformer.adapters.methods.method import Sizes
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.parameters import count_parameters, published_t5
from hyperformer.settings.build import make_config, settings
from hyperformer.settings.methods import METHOD_OPTIONS
from hyperformer.settings.methods import METHODS as FACTS

TASKS = ["cola", "mrpc", "stsb"]
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
    owned = {name for name, entry in settings().items() if entry.section == "adapter"} - {"adapter"}
    assert owned <= METHOD_OPTIONS <= settings().keys()
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
        switches = {name for name in facts.options if isinstance(settings()[name].default, bool)}
        more |= {name: not settings()[name].default for name in switches}
        if "projected_task_embedding_dim" in facts.options:
            more["projected_task_embedding_dim"] = OPTIONS["task_embedding_dim"]
    model = make(kind, **more)
    sizes = Sizes(32, {"encoder": 2, "decoder": 3}, tasks=2 if names else 3, inner=24, feed_forward=48)
    assert added(model) == model.method.count(model.config.adapter_config, sizes)


@pytest.mark.parametrize(("kind", "percent"), [("task", 0.832)])
def test_as_many_parameters_as_in_the_table_of_the_compacter_paper(kind: str, percent: float) -> None:
    """Karimi Mahabadi, Henderson, Ruder, NeurIPS 2021, table 1: T5-base, one task, T5's layer norms included."""
    model = make(
        kind,
        published_t5("t5-base"),
        tasks=["cola"],
        reduction_factor=32,
        add_layer_norm_after_adapter=False,
        unfreeze_layer_norms=True,
    )
    assert round(count_parameters(model).trained_percent_per_task, 3) == percent
