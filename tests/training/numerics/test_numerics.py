"""Every number format trains as float32 does, and numbers that are not finite are neither hidden nor saved."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from safetensors.torch import load_file
from training.forked_runs import Ended, ForkedRuns

from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.numerics.kernels import choose_kernels, compute_as_run, prepare_environment

FP16: dict[str, Any] = {"precision": "fp16"}
QUICK = {"do_eval": False, "do_test": False, "logging_steps": 1}


def faults(**more: list[int]) -> dict[str, list[int]]:
    return {"fp16_on_cpu": [], **more}


def gradient_norm(ended: Ended, calls: int) -> float:
    """Norm of the last gradient that Adam saw, in so many calls per step."""
    squares = re.findall(r"^gradient (\S+)$", ended.out, re.M)
    return sum(map(float, squares[-calls:])) ** 0.5


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def newest(folder: Path) -> str:
    return (folder / "checkpoints/latest").read_text()


@pytest.fixture(scope="module")
def gradient(runs: ForkedRuns, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., float]:
    folder = tmp_path_factory.mktemp("gradients")

    def measure(calls: int = 1, **settings: Any) -> float:
        """Of the eighth step, with the weights as they were at first."""
        number = len(list(folder.iterdir()))
        still = {"learning_rate": 1e-12, "dropout": 0.0, "max_grad_norm": 0.0, **QUICK}
        told = faults(print_gradients=[])
        return gradient_norm(runs.whole(folder / str(number), **still, **settings, faults=told), calls)

    return measure


@pytest.fixture(scope="module")
def float32(gradient: Callable[..., float]) -> float:
    return gradient()


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({"precision": "bf16"}, 1),
        (FP16, 2),
        pytest.param({**FP16, "zero_stage": 2}, 2, marks=pytest.mark.slow),
        pytest.param({**FP16, "zero_stage": 3}, 2, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_adam_sees_the_gradient_of_float32(
    settings: dict[str, Any], calls: int, gradient: Callable[..., float], float32: float
) -> None:
    """In fp16 it is divided by the very scale that the loss was multiplied by."""
    assert gradient(calls, **settings) == pytest.approx(float32, rel=0.02)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bf16"},
        pytest.param({"zero_stage": 2}, marks=pytest.mark.slow),
        pytest.param({"zero_stage": 3, "ranks": 2}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_an_infinite_gradient_ends_the_run_and_is_not_saved(
    settings: dict[str, Any], runs: ForkedRuns, tmp_path: Path
) -> None:
    """It comes at step 5 with a loss that is finite; step 6 would be saved. The look at it waits for no device."""
    unseen: dict[str, list[int]] = {} if settings else {"no_waiting": []}
    ended = runs.run(tmp_path, **settings, logging_steps=100, faults={"infinite_gradient": [5], **unseen})
    assert 2 in ended.codes and "Traceback" not in ended.out, ended.out
    assert "Diverged: the gradient of step 5 is not a finite number: lower learning_rate" in ended.out
    assert "the last complete checkpoint is step-3" in ended.out and newest(tmp_path) == "step-3"
    ended = runs.whole(tmp_path, **settings, logging_steps=100)
    assert "resuming from step 3" in ended.out


def test_weights_that_are_not_finite_are_not_saved(runs: ForkedRuns, tmp_path: Path) -> None:
    """All gradients and losses up to the save are finite."""
    ended = runs.run(tmp_path, logging_steps=100, faults={"huge_update": [6]})
    assert ended.codes == [2] and newest(tmp_path) == "step-3"
    assert "Diverged: trained weights are not finite numbers after step 6" in ended.out


def test_such_a_checkpoint_of_an_earlier_version_is_passed_over(runs: ForkedRuns, tmp_path: Path) -> None:
    spoilt = {"huge_update": [6], "unchecked": []}
    runs.run(tmp_path, at=("step", 7), eval_steps=8, logging_steps=100, faults=spoilt)
    assert newest(tmp_path) == "step-6"
    ended = runs.whole(tmp_path, eval_steps=8, logging_steps=100)
    assert "step-6 is damaged (its weights are not finite numbers)" in ended.out
    assert "resuming from step 3" in ended.out


def test_an_infinite_forward_in_fp16_is_a_skipped_step(runs: ForkedRuns, tmp_path: Path) -> None:
    """One of two forwards. Steps before are skipped until the loss scale is small enough."""
    settings = {
        **FP16,
        "gradient_accumulation_steps": 2,
        "max_steps": 12,
        "eval_steps": 12,
        "logging_steps": 1,
    }
    ended = runs.whole(tmp_path, **settings, faults=faults(infinite_loss=[21]))
    skipped = [
        int(step) for step in re.findall(r"^step (\d+)/12  skipped: the gradient overflowed", ended.out, re.M)
    ]
    assert 11 in skipped and 12 not in skipped
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["skipped_steps"] == len(skipped)
    assert result["numerics"]["weights"] == "float16" and result["numerics"]["zero_stage"] == 1
    # A skipped step has no loss; the line after it does not count that step's.
    trained = [line for line in lines(tmp_path) if line["split"] == "train"]
    assert [line["step"] for line in trained if "loss" not in line] == skipped
    assert all(0 < line["loss"] < 20 for line in trained if "loss" in line)
    weights = load_file(tmp_path / "adapter/hyperformer_adapter.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (3, "none of the 3 steps was applied: the gradient of each overflowed"),
        (24, "the gradient of step 18 overflows at the smallest loss scale"),
        pytest.param(
            99, "the gradients of 64 steps in a row overflow, up to step 64", marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_that_skips_all_steps_fails(steps: int, told: str, runs: ForkedRuns, tmp_path: Path) -> None:
    """The longest run has a loss scale that never changes."""
    every = faults(infinite_gradient=list(range(1, steps + 1)))
    settings: dict[str, Any] = {"max_steps": steps, "save_steps": 100, "eval_steps": 100}
    if steps == 99:
        (tmp_path / "fixed.json").write_text('{"fp16": {"loss_scale": 128}}')
        settings["deepspeed_config"] = str(tmp_path / "fixed.json")
    ended = runs.run(tmp_path, **FP16, **settings, faults=every)
    assert ended.codes == [2] and f"Diverged: {told}" in ended.out, ended.out
    assert not (tmp_path / "result.json").exists() and not (tmp_path / "checkpoints/latest").exists()


@pytest.mark.parametrize(
    ("settings", "fault", "told"),
    [
        ({}, "no_fp16", "DeepSpeed does not run on this device"),
        ({"zero_stage": 0}, "fp16_on_cpu", "zero_stage is 0, but precision is fp16"),
    ],
)
def test_fp16_where_it_cannot_be_trained(
    settings: dict[str, Any], fault: str, told: str, runs: ForkedRuns, tmp_path: Path
) -> None:
    """Before anything is loaded."""
    ended = runs.run(tmp_path, **FP16, **settings, model_name_or_path="/nowhere", faults={fault: []})
    assert ended.codes == [2] and told in ended.out and "Traceback" not in ended.out


def test_deterministic_kernels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runs: ForkedRuns, tmp_path: Path
) -> None:
    """What is set for a GPU, without one; and on a CPU, a whole run has deterministic kernels only."""
    for name in ("CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    prepare_environment(TrainingConfig())
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    try:
        for config in (TrainingConfig(deterministic=True, tf32=False), TrainingConfig()):
            prepare_environment(config)
            choose_kernels(config)
            assert torch.are_deterministic_algorithms_enabled() is config.deterministic
            assert torch.backends.cuda.matmul.allow_tf32 is config.tf32
            assert torch.backends.cuda.flash_sdp_enabled() is not config.deterministic
            assert torch.backends.cuda.mem_efficient_sdp_enabled() is not config.deterministic
            assert torch.backends.cuda.cudnn_sdp_enabled() is not config.deterministic
            assert torch.backends.cuda.math_sdp_enabled()
        # A trained model answers with what its run recorded; TF32 is told of where the GPU does not have it.
        for has_tf32, told in ((True, ""), (False, "in TF32, which this machine does not have")):
            monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda has=has_tf32: has)
            model = MagicMock(config=MagicMock(answer_settings={"tf32": True, "deterministic": True}))
            assert compute_as_run(model) == torch.device("cuda")
            model.to.assert_called_once_with(torch.device("cuda"), torch.float32)
            assert torch.are_deterministic_algorithms_enabled() and torch.backends.cuda.matmul.allow_tf32
            assert told in (found := capsys.readouterr().err) and bool(told) == bool(found)
    finally:
        choose_kernels(TrainingConfig(tf32=False))
    assert os.environ.pop("CUBLAS_WORKSPACE_CONFIG") == ":4096:8" and os.environ.pop("NCCL_ALGO") == "^NVLS"
    ended = runs.whole(tmp_path, deterministic=True, decode="generate")
    assert "deterministic kernels" in ended.out
