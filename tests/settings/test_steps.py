"""How long a run is, and how long its warm-up: one way to say each, and the numbers must fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyperformer.errors import ConfigError
from hyperformer.settings.build import flatten, make_config
from hyperformer.settings.checks import check_schedule
from hyperformer.settings.config_files import load_config
from hyperformer.settings.schema import TrainingConfig
from hyperformer.settings.signature import signature
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.store.ledger import Ledger
from launchers.submit import preflight


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        ({"max_steps": 100}, False), ({"max_steps": 100, "warmup_steps": 101}, False),
        ({"warmup_steps": 70_000}, False),
        ({"max_steps": 100, "warmup_steps": 100}, True), ({"max_steps": 100, "warmup_ratio": 0.5}, True),
        ({"max_steps": 100, "lr_scheduler": "constant"}, True), ({"num_train_epochs": 1}, True), ({}, True),
    ],
)  # fmt: skip
def test_a_warm_up_longer_than_the_run_is_an_error(given: dict, fits: bool) -> None:
    training = make_config(given).training
    if fits:
        check_schedule(training)
    else:
        told = rf"warmup_steps is {training.warmup_steps}, .* only {training.max_steps} steps"
        with pytest.raises(ConfigError, match=told):
            check_schedule(training)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["warmup_ratio=0.1"], {"warmup_ratio": 0.1, "warmup_steps": 500, "max_steps": 200}),
        (["num_train_epochs=3"], {"num_train_epochs": 3.0, "max_steps": 65_536}),
        (["max_steps=1000", "warmup_ratio=0.06"], {"max_steps": 1000, "warmup_ratio": 0.06}),
        (["warmup_steps=7"], {"warmup_steps": 7, "warmup_ratio": None}),
    ],
)
def test_the_upper_layer_says_how(tmp_path: Path, overrides: list[str], told: dict) -> None:
    """The config file gives steps; the command line may say it in another way."""
    (tmp_path / "c.json").write_text('{"max_steps": 200, "warmup_steps": 20, "tasks": ["rte"]}')
    flat = flatten(load_config(tmp_path / "c.json", overrides))
    assert {key: flat[key] for key in told} == told


@pytest.mark.parametrize("one", ["warmup_steps=7", "warmup_steps=500"])
def test_two_ways_at_once_are_refused(one: str) -> None:
    with pytest.raises(ConfigError, match="warmup_ratio and warmup_steps are both given"):
        load_config("finetune", [one, "warmup_ratio=0.1"])
    with pytest.raises(ConfigError, match="max_steps is given too"):
        make_config({"max_steps": 7, "num_train_epochs": 1})


def test_each_way_is_a_run_of_its_own() -> None:
    ways = ({}, {"warmup_ratio": 0.1}, {"num_train_epochs": 1}, {"num_train_epochs": 2.5})
    assert len({signature(make_config(way)) for way in ways}) == 4


def test_in_sweeps(tmp_path: Path) -> None:
    def write_sweep(text: str) -> Path:
        (tmp_path / "s.yaml").write_text(text)
        return tmp_path / "s.yaml"

    head = "variants: [finetune]\ntasks: [rte, cola]\n"
    plan = load_plan(
        str(write_sweep(head + "base: {warmup_steps: 9}\ngrid: {warmup_ratio: [0.1, 0.2]}")), NO_PROFILE
    )
    found = {(run.config.training.warmup_steps, run.config.training.warmup_ratio) for run in plan.runs}
    assert found == {(500, 0.1), (500, 0.2)}
    with pytest.raises(
        ConfigError, match="s.yaml, line 4, base.warmup_ratio: warmup_ratio and warmup_steps are both"
    ):
        load_plan(str(write_sweep(head + "base:\n  warmup_ratio: 0.1\n  warmup_steps: 1")), NO_PROFILE)
    plan = load_plan(str(write_sweep(head + "base: {max_steps: 99, model_name_or_path: toy}")), NO_PROFILE)
    (finding,) = [
        one
        for one in preflight.find_problems(plan.runs, tmp_path / "runs/s")[0]
        if "warmup_steps" in one.text
    ]
    assert "warmup_steps is 500, but the run has only 99 steps" in finding.text
    Ledger(plan, tmp_path / "runs").commit()  # as an earlier version did, which took no notice
    assert not [
        one for one in preflight.find_problems(plan.runs, tmp_path / "runs/s")[0] if "warmup" in one.text
    ]


def test_a_config_without_numbers_is_not_judged() -> None:
    check_schedule(TrainingConfig(max_steps=1, warmup_ratio=0.5))
