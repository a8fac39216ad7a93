"""Agreement with the authors' code, number by number; what is compared is in agreement.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from agreement import (
    Fixture,
    cross_bias_difference,
    generation_agrees,
    gradient_difference,
    logits_difference,
    loss_difference,
    weights_difference,
)
from places import FIXTURES, reference_settings

from hyperformer.adapters.parameters import count_config
from hyperformer.adapters.reference import CROSS_BIAS, load_reference_state_dict, reference_state_dict
from hyperformer.errors import CheckpointError
from hyperformer.settings.config_files import load_config


@pytest.fixture(params=reference_settings(), ids=lambda path: path.name)
def fixture(request: pytest.FixtureRequest) -> Fixture:
    return Fixture(request.param)


def test_logits(fixture: Fixture) -> None:
    assert logits_difference(fixture) < 2e-5


def test_losses(fixture: Fixture) -> None:
    assert loss_difference(fixture) < 1e-5


def test_gradients(fixture: Fixture) -> None:
    assert gradient_difference(fixture) < 1e-4


def test_generation(fixture: Fixture) -> None:
    assert generation_agrees(fixture)


def test_weights_after_three_steps(fixture: Fixture) -> None:
    worst, compared = weights_difference(fixture)
    assert worst < 2e-5
    assert compared > 0.4


def test_weights_after_three_steps_with_decay(fixture: Fixture) -> None:
    if not (fixture.folder / "after3_torch17_wd0.1.safetensors").exists():
        pytest.skip("this trace is in the full reference only")
    assert weights_difference(fixture, "torch17_wd0.1")[0] < 5e-5


def test_cross_attention_bias_of_old_t5(fixture: Fixture) -> None:
    assert cross_bias_difference(fixture) < 2e-5


def test_there_and_back(fixture: Fixture) -> None:
    back = reference_state_dict(fixture.model())
    assert back.keys() == fixture.weights.keys()
    assert all(torch.equal(back[name], value) for name, value in fixture.weights.items())


def test_what_trains(fixture: Fixture) -> None:
    """Our freezing rules leave what theirs leave."""
    from hyperformer.adapters.build import mark_trained
    from hyperformer.adapters.reference import reference_entries
    from hyperformer.settings.schema import ModelConfig

    model = fixture.model()
    adapted = model.adapters is not None
    mark_trained(model, ModelConfig(unfreeze_layer_norms=adapted))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    ours = {theirs for theirs, name, _ in reference_entries(model) if parameters[name].requires_grad}
    # Theirs counts tied weights again, and the cross-attention bias of old T5 where it is not used.
    tied = {
        CROSS_BIAS,
        "shared.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "lm_head.weight",
    }
    assert ours - tied == set(fixture.golden["trainable"]) - tied


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape"])
def test_bad_checkpoint_changes_nothing(damage: str) -> None:
    fixture = Fixture(reference_settings()[0])
    model = fixture.model()
    before = reference_state_dict(model)
    weights = {name: value + 1 for name, value in fixture.weights.items()}
    name = "encoder.final_layer_norm.weight"
    if damage == "missing":
        del weights[name]
    elif damage == "unknown":
        weights["encoder.final_layer_norm.wieght"] = weights[name]
    else:
        weights[name] = weights[name][:-1]
    with pytest.raises(CheckpointError, match="final_layer_norm"):
        load_reference_state_dict(model, weights)
    after = reference_state_dict(model)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_cross_attention_bias_is_never_dropped() -> None:
    fixture = Fixture(reference_settings()[0])
    plain = {name: value for name, value in fixture.weights.items() if name != CROSS_BIAS}
    model = fixture.model(plain)
    with pytest.raises(CheckpointError, match="relative_attention_bias"):
        load_reference_state_dict(model, fixture.weights)


_SETTINGS = {
    "hyperformer++": ("hyperformer++", []),
    "hyperformer, unique_hyper_net (the authors' hyperformer.json)": (
        "hyperformer",
        ["adapter=hypernetwork_per_block_type", "task_embedding_dim=64", "train_task_embeddings=false"],
    ),
    "adapters_dagger": ("adapters_dagger", []),
    "adapters (one task)": ("adapters", ["tasks=mrpc"]),
    "finetune": ("finetune", []),
    "finetune_single_task": ("finetune_single_task", ["tasks=mrpc"]),
    "hyperformer, a hypernetwork per layer, task embeddings 64": (
        "hyperformer",
        ["task_embedding_dim=64", "train_task_embeddings=false"],
    ),
    "hyperformer, a hypernetwork per layer, task embeddings 512 -> 64 (the paper's)": ("hyperformer", []),
}
# Old T5's position bias in cross-attention, which theirs counts and today's T5 has not.
_CROSS_BIAS = {"t5-small": 32 * 8, "t5-base": 32 * 12, "t5-large": 32 * 16}


def test_parameter_counts() -> None:
    rows = json.loads((FIXTURES / "reference" / "parameters.json").read_text())
    assert len(rows) > 40
    for row in rows:
        name, overrides = _SETTINGS[row["setting"]]
        overrides = [*overrides, f"model_name_or_path={row['model']}"]
        if row["reduction_factor"] is not None:
            overrides.append(f"reduction_factor={row['reduction_factor']}")
        count = count_config(load_config(name, overrides))
        bias = _CROSS_BIAS[row["model"]]
        finetuned = name.startswith("finetune")
        assert (count.total, count.trained) == (row["total"] - bias, row["trained"] - bias * finetuned), row


@pytest.mark.parametrize(
    ("config", "model", "percent"),
    [
        ("hyperformer", "t5-small", 5.80),
        ("hyperformer", "t5-base", 6.86),
        ("hyperformer++", "t5-small", 0.50),
        ("hyperformer++", "t5-base", 0.29),
        ("adapters_dagger", "t5-base", 0.82),
    ],
)
def test_percent_a_task_of_table_1(config: str, model: str, percent: float) -> None:
    count = count_config(load_config(config, [f"model_name_or_path={model}"]))
    assert round(count.trained_percent_per_task, 2) == pytest.approx(percent, abs=0.011)


def test_two_fixtures_are_committed() -> None:
    assert {path.name for path in Path(FIXTURES / "reference" / "model").iterdir()} == {
        "adapters",
        "hyperformerpp_pre0_tte0",
    }
