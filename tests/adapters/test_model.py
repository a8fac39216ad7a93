"""The model beyond what the reference shows: mixed batches, beams, checkpointing, loading, half precision."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

from hyperformer.adapters.build import build_model
from hyperformer.adapters.functional import SiteWeights, apply_adapter
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.reference import reference_state_dict
from hyperformer.commands.export import static_model
from hyperformer.errors import CheckpointError, ConfigError
from hyperformer.settings.build import make_config
from hyperformer.settings.schema import AdapterConfig, RunConfig
from hyperformer.settings.values import settings as settings_table

TASKS = ["cola", "mrpc", "stsb"]
T5 = dict(
    vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=3, num_heads=4,
    dropout_rate=0.0, decoder_start_token_id=0,
)  # fmt: skip
KINDS = ["task", "hypernetwork_per_layer", "hypernetwork_per_block_type", "hypernetwork_shared"]


def settings(kind: str, **more: object) -> RunConfig:
    return make_config(
        {
            "tasks": TASKS,
            "adapter": kind,
            "reduction_factor": 4,
            "task_embedding_dim": 12,
            "projected_task_embedding_dim": 6,
            "task_hidden_dim": 10,
            "unfreeze_layer_norms": True,
            **more,
        }
    )


def make_model(kind: str, **more: object) -> HyperformerT5:
    torch.manual_seed(0)
    model = build_model(settings(kind, **more), t5=T5Config(**T5))
    if model.adapters is not None:
        # As at the start the adapters hardly matter: make them.
        for parameter in model.adapters.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def batch(rows: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(2, 96, (rows, 9), generator=generator)
    return {
        "input_ids": source,
        "attention_mask": torch.ones_like(source),
        "labels": torch.randint(2, 96, (rows, 4), generator=generator),
    }


@pytest.mark.parametrize("norms", [(False, True), (True, True), (True, False), (False, False)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_mixed_batch_equals_its_tasks_one_by_one(kind: str, norms: tuple[bool, bool]) -> None:
    before, after = norms
    model = make_model(kind, add_layer_norm_before_adapter=before, add_layer_norm_after_adapter=after)
    rows, ids = batch(), torch.tensor([2, 0, 1, 1, 0, 2])
    mixed = model(**rows, task_ids=ids).logits
    for number, task in enumerate(TASKS):
        alone = model(**rows, task=task).logits
        torch.testing.assert_close(mixed[ids == number], alone[ids == number], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(**rows, task="cola").logits, model(**rows, task="mrpc").logits, atol=1e-3)


V1_1 = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False, scale_decoder_outputs=False)


@pytest.mark.parametrize("base", [{}, V1_1], ids=["t5", "v1.1"])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_near_identity_leaves_the_logits_of_t5(kind: str, base: dict[str, Any]) -> None:
    def changes(**more: object) -> tuple[HyperformerT5, float]:
        torch.manual_seed(0)
        model = build_model(settings(kind, **more), t5=T5Config(**T5 | base)).eval()
        with_adapters = model(**batch(), task="mrpc").logits
        for stack in (model.encoder, model.decoder):
            for block in stack.block:
                block.layer[0].SelfAttention._forward_hooks.clear()
                block.layer[-1].DenseReluDense._forward_hooks.clear()
        plain = model(**batch(), task="mrpc").logits
        return model, ((with_adapters - plain).norm() / plain.norm()).item()

    assert changes()[1] > 0.05
    model, change = changes(generator_init="near_identity", add_layer_norm_after_adapter=False)
    assert change <= 0.01
    for stack in model.adapters.stacks.values():  # type: ignore[union-attr]
        assert 0 < stack.heads["down_weight"].weight.std() < 1e-3  # type: ignore[index, union-attr, operator]


ROBUST = {
    "task_embedding_norm": True,
    "generator_scaling": "sqrt_width",
    "parallel_feed_forward_adapter": True,
    "add_layer_norm_after_adapter": False,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_authors_have_not(kind: str) -> None:
    model = make_model(kind, **ROBUST)
    rows, ids = batch(), torch.tensor([2, 0, 1, 1, 0, 2])
    mixed = model(**rows, task_ids=ids).logits
    alone = model(**rows, task="mrpc").logits
    torch.testing.assert_close(mixed[ids == 1], alone[ids == 1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(static_model(model, "mrpc")(**rows, task="mrpc").logits, alone)
    for key in ROBUST:
        changed = make_model(kind, **{**ROBUST, key: getattr(AdapterConfig(), key)})
        changed.load_state_dict(model.state_dict(), strict=False)
        used = key != "add_layer_norm_after_adapter" and settings_table()[key].is_used({"adapter": kind})
        if used:
            assert not torch.allclose(changed(**rows, task="mrpc").logits, alone, atol=1e-4), key
    with pytest.raises(CheckpointError, match="parallel_feed_forward_adapter: the authors' code has no such"):
        reference_state_dict(model)


def test_the_divisor_is_the_width_of_what_the_generators_read() -> None:
    plain, scaled = (make_model(KINDS[3], generator_scaling=scaling) for scaling in ("none", "width"))
    scaled.load_state_dict(plain.state_dict())
    task = torch.randn(12)
    expected = plain.adapters.stacks["encoder"].site_embeddings(task) / 6  # type: ignore[union-attr, operator]
    torch.testing.assert_close(scaled.adapters.stacks["encoder"].site_embeddings(task), expected)  # type: ignore[union-attr, operator]


def test_a_parallel_adapter_reads_the_input_of_the_feed_forward() -> None:
    reads, output = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    weights = SiteWeights(torch.randn(4, 8), torch.randn(4), torch.randn(8, 4), torch.randn(8))
    hidden = torch.relu(reads @ weights.down_weight.T + weights.down_bias)
    expected = output + hidden @ weights.up_weight.T + weights.up_bias
    torch.testing.assert_close(apply_adapter(output, weights, torch.relu, reads), expected)


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_generation_of_a_mixed_batch(kind: str, beams: int) -> None:
    model = make_model(kind)
    rows, ids = batch(), torch.tensor([2, 0, 1, 1, 0, 2])
    sources = {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}
    options = {"max_length": 8, "min_length": 8, "num_beams": beams, "do_sample": False}
    mixed = model.generate(**sources, task_ids=ids, **options)
    for number, task in enumerate(TASKS):
        alone = model.generate(**sources, task=task, **options)
        assert torch.equal(mixed[ids == number], alone[ids == number])


def test_generation_makes_the_weights_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("hypernetwork_shared")
    calls: list[str] = []
    assert model.adapters is not None
    make = model.adapters.forward
    monkeypatch.setattr(
        model.adapters, "forward", lambda stack, *more: calls.append(stack) or make(stack, *more)
    )
    rows = batch()
    model.generate(input_ids=rows["input_ids"], task="cola", max_length=12, min_length=12, do_sample=False)
    assert calls == ["encoder", "decoder"]


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_with_two_forwards_before_a_backward(kind: str) -> None:
    plain = make_model(kind).train()
    checkpointed = make_model(kind, gradient_checkpointing=True).train()
    checkpointed.load_state_dict(plain.state_dict())
    for model in (plain, checkpointed):
        loss = (
            model(**batch(), task="cola", use_cache=False).loss
            + model(**batch(), task="stsb", use_cache=False).loss
        )
        loss.backward()
    gradients = dict(checkpointed.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, gradients[name].grad, msg=name, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_trained_parameter_gets_a_gradient_in_every_step(kind: str) -> None:
    """ZeRO stage 3 steps a parameter without one by the gradient of an earlier step."""
    model = make_model(kind, train_task_embeddings=kind == "hypernetwork_per_layer").train()
    for task in TASKS:
        model.zero_grad()
        model(**batch(), task=task).loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", KINDS)
def test_loading_a_plain_t5_starts_the_adapters_as_a_new_model_does(kind: str, tmp_path) -> None:
    torch.manual_seed(3)
    stock = T5ForConditionalGeneration(T5Config(**T5))
    stock.save_pretrained(tmp_path)
    model = build_model(settings(kind, model_name_or_path=str(tmp_path), conditional_layer_norm=True))
    loaded = model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in stock.state_dict().items())
    for name, parameter in model.adapters.named_parameters():  # type: ignore[union-attr]
        values = parameter.detach()
        assert torch.isfinite(values).all(), name
        if "embeddings" in name and "projector" not in name:
            assert 0.5 < values.std() < 1.6, name
        elif name.endswith("norm.weight") or ".norms." in name and name.endswith("_weight"):
            assert (values == 1).all(), name
        elif name.endswith("bias") and ".heads.down_bias.weight" not in name:
            assert (values == 0).all(), name
        else:
            assert 0.005 < values.std() < 0.015, name


def test_save_and_load_the_whole_model(tmp_path) -> None:
    model = make_model("hypernetwork_shared")
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, HyperformerT5)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(model(**batch(), task="stsb").logits, loaded(**batch(), task="stsb").logits)


def test_plain_t5_is_stock_t5() -> None:
    model = make_model("none")
    stock = T5ForConditionalGeneration(T5Config(**T5)).eval()
    stock.load_state_dict(model.state_dict())
    assert torch.equal(model(**batch(), task="cola").logits, stock(**batch()).logits)


def test_half_precision_loading(tmp_path) -> None:
    make_model("hypernetwork_shared").save_pretrained(tmp_path)
    # In this type transformers keeps T5's last feed-forward product in float32.
    model = HyperformerT5.from_pretrained(tmp_path, dtype=torch.float16).eval()
    assert model.encoder.block[0].layer[-1].DenseReluDense.wo.weight.dtype == torch.float32
    assert torch.isfinite(model(**batch(), task="cola").logits).all()


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ({}, {"adapters", "norms"}),
        ({"unfreeze_layer_norms": False}, {"adapters"}),
        ({"freeze_model": True}, {"norms"}),
        ({"freeze_model_but_task_embeddings": True, "unfreeze_layer_norms": False}, {"task_embeddings"}),
        ({"freeze_model_but_lm_head": True, "unfreeze_layer_norms": False}, {"embeddings"}),
        ({"unfreeze_lm_head": True}, {"adapters", "norms", "embeddings"}),
        ({"freeze_encoder": True, "unfreeze_layer_norms": False}, {"adapters of the decoder"}),
        ({"unfreeze_model": True}, {"everything"}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "+".join(sorted(value)),
)
def test_freezing(freeze: dict, trained: set) -> None:
    model = make_model("hypernetwork_shared", **freeze)
    seen = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    everything = {name for name, _ in model.named_parameters()}
    expected = {
        "adapters": {n for n in everything if n.startswith("adapters.")},
        "norms": {n for n in everything if "layer_norm.weight" in n and not n.startswith("adapters.")},
        "task_embeddings": {"adapters.task_embeddings.weight"},
        "embeddings": {"shared.weight"},
        "adapters of the decoder": {
            n for n in everything if n.startswith(("adapters.stacks.decoder", "adapters.task_embeddings"))
        },
        "everything": everything,
    }
    assert seen == set().union(*(expected[part] for part in trained))


def test_errors() -> None:
    model = make_model("task")
    with pytest.raises(ConfigError, match="did you mean 'cola'"):
        model(**batch(), task="colla")
    with pytest.raises(ConfigError, match="say for which task"):
        model(**batch())
    with pytest.raises(ConfigError, match="at most 32"):
        make_model("task", reduction_factor=64)
    with pytest.raises(ConfigError, match="did you mean 'gelu_new'"):
        make_model("task", non_linearity="gelu_nwe")
    with pytest.raises(ConfigError, match="nothing is left to train"):
        make_model("none", freeze_model=True, unfreeze_layer_norms=False)


def test_a_checkpoint_that_lacks_weights_of_t5(tmp_path) -> None:
    stock = T5ForConditionalGeneration(T5Config(**T5))
    lacking = {n: v for n, v in stock.state_dict().items() if "block.1.layer.0.SelfAttention.q" not in n}
    stock.save_pretrained(tmp_path, state_dict=lacking)
    with pytest.raises(CheckpointError, match="SelfAttention.q"):
        build_model(settings("task", model_name_or_path=str(tmp_path)))


def test_equal_names_share_an_adapter() -> None:
    config = settings("task", adapters=["a", "a", "b"])
    torch.manual_seed(0)
    model = build_model(config, t5=T5Config(**T5)).eval()
    torch.nn.init.normal_(model.adapters.stacks["encoder"].up_weight)  # type: ignore[union-attr]
    logits = {task: model(**batch(), task=task).logits for task in TASKS}
    assert torch.equal(logits["cola"], logits["mrpc"])
    assert not torch.equal(logits["cola"], logits["stsb"])
    assert dataclasses.asdict(config.adapter)["adapters"] == ("a", "a", "b")


def test_attention_is_computed_as_asked() -> None:
    outputs = []
    for name in (None, "sdpa", "eager"):
        model = make_model("hypernetwork_shared", attn_implementation=name)
        used = {m.config._attn_implementation for m in model.modules() if isinstance(m, T5Attention)}
        assert used == {name or "sdpa"}
        outputs.append(model(**batch(), task="cola").logits)
    assert torch.equal(outputs[0], outputs[1]) and torch.allclose(outputs[0], outputs[2], atol=1e-4)
