"""Schedules, loss and parameter groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from places import FIXTURES
from test_model import make_model
from trained_models import batch, make_base, settings

from hyperformer.adapters.build import build_model
from hyperformer.settings.build import replace
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.optimization.loss import token_loss
from hyperformer.training.optimization.optimizer import make_optimizer
from hyperformer.training.optimization.schedule import learning_rate_factor, make_schedule


@pytest.mark.parametrize("kind", ["linear", "cosine", "polynomial"])
def test_schedules_are_the_authors(kind: str) -> None:
    expected = json.loads((FIXTURES / "reference" / "lr_schedules_warmup5_steps20_lr3e-4.json").read_text())[
        kind
    ]
    config = TrainingConfig(max_steps=20, warmup_steps=5, learning_rate=3e-4, lr_scheduler=kind)  # type: ignore[arg-type]
    factor = learning_rate_factor(config)
    assert [3e-4 * factor(step) for step in range(len(expected))] == pytest.approx(
        expected, abs=1e-18, rel=1e-9
    )


def test_a_schedule_ends_at_the_last_step() -> None:
    model = torch.nn.Linear(2, 2)
    config = TrainingConfig(max_steps=4, warmup_steps=2, learning_rate=1.0)
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config)
    rates = []
    for _ in range(4):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == [0.0, 0.5, 1.0, 0.5]


def test_padding_does_not_count_in_the_loss() -> None:
    logits = torch.randn(2, 3, 7)
    labels = torch.tensor([[1, 2, -100], [3, -100, -100]])
    alone = sum(
        token_loss(logits[r : r + 1, c : c + 1], labels[r : r + 1, c : c + 1], 0.1)
        for r, c in [(0, 0), (0, 1), (1, 0)]
    )
    assert token_loss(logits, labels, 0.1) == pytest.approx(float(alone), rel=1e-6)


def test_the_authors_optimizer_counts_each_task_alone(tmp_path: Path) -> None:
    """Also if T5 was loaded from a checkpoint."""
    config = settings(make_base(tmp_path), "task")
    steps = []
    for model in (build_model(config), build_model(replace(config, random_init=True))):
        optimizer = make_optimizer(model, TrainingConfig(reference_optimizer=True))
        for task in ("cola", "stsb", "cola"):
            optimizer.zero_grad()
            model(**batch(model.config.vocab_size), task=task).logits.sum().backward()
            optimizer.step()
        weight = model.adapters.stacks["encoder"].up_weight  # type: ignore[union-attr]
        steps.append(optimizer.state[weight]["steps"].tolist())
    # A task's count starts at its own first step.
    assert steps == [[3, 0, 2]] * 2


@pytest.mark.parametrize("kind", ["task", "hypernetwork_per_layer", "hypernetwork_shared"])
def test_decay_spares_biases_and_layer_norms_only(kind: str) -> None:
    model = make_model(kind)
    decayed, spared = make_optimizer(model, TrainingConfig(weight_decay=0.1)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.1 and spared["weight_decay"] == 0.0
    for parameter in spared["params"]:
        name = names[id(parameter)]
        assert name.endswith("bias") or "norm" in name, name
    # A generator of biases is a weight.
    assert not any("heads" in names[id(p)] and names[id(p)].endswith(".weight") for p in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", ["hypernetwork_per_layer", "hypernetwork_shared"])
def test_generators_have_a_learning_rate_of_their_own(kind: str) -> None:
    model = make_model(kind)
    config = TrainingConfig(
        learning_rate=1e-3, generator_learning_rate=1e-4, weight_decay=0.1, warmup_steps=2
    )
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        name: (group["initial_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in (names[id(parameter)] for parameter in group["params"])
    }
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, (rate, decay) in found.items():
        assert rate == (1e-4 if ".heads." in name else 1e-3), name
        if ".heads." in name:
            assert decay == (0.0 if name.endswith(".bias") else 0.1), name
    optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [5e-4, 5e-4, 5e-5, 5e-5]
