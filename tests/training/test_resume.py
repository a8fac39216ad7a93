"""A run that was interrupted anywhere ends bit-identical to one that was not."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from places import FIXTURES
from safetensors.torch import load_file
from training.forked_runs import ForkedRuns

from hyperformer.answers.verify import verify_run
from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema import VARIANTS
from hyperformer.training.step_meter import MEASURED

DEEPSPEED = FIXTURES / "deepspeed" / "works"
ONE_TASK = {"tasks": ["toy-sentiment"]}


def state(folder: Path) -> dict[str, torch.Tensor]:
    """All of the last checkpoint's tensors: weights and moments, of every rank."""
    last = json.loads((folder / "result.json").read_text())
    newest = (folder / "checkpoints/latest").read_text()
    found = {}
    for path in sorted((folder / "checkpoints" / newest).glob("*.safetensors")):
        found |= {f"{path.name} {key}": value for key, value in load_file(path).items()}
    assert found and last
    return found


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, without what differs from run to run."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line.keys() >= {*MEASURED} for line in found if line["split"] == "train")
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in found]


def assert_same(one: Path, other: Path) -> None:
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    adapters = [folder / "adapter/hyperformer_adapter.safetensors" for folder in (one, other)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert lines(one) == lines(other)
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    for name in ("validation", "test", "best_step", "answers"):
        assert results[0][name] == results[1][name]
    for path in (one / "answers").iterdir():
        assert path.read_bytes() == (other / "answers" / path.name).read_bytes(), path.name
    assert verify_run(other).findings == ()


CASES: list[Any] = [
    *(
        (variant, ONE_TASK if variant in ("adapters", "finetune_single_task") else {})
        for variant in VARIANTS
        if variant != "hyperformer++-stable"
    ),
    # Adapters of each row; factors that all layers share.
    ("hyperdecoder", {}),
    *(
        pytest.param(name, {"zero_stage": stage, "precision": precision}, marks=pytest.mark.slow)
        for name, stage, precision in (
            ("pfeiffer", 1, "fp32"),
            ("compacter", 3, "bf16"),
            ("compacter++", 0, "fp32"),
            ("hyperdecoder", 3, "fp32"),
            ("layer_norms", 2, "bf16"),
        )
    ),
    # Parameter groups of their own.
    ("hyperformer++-stable", {"generator_learning_rate": 1e-2, "weight_decay": 0.1, "zero_stage": 1}),
    pytest.param(
        "hyperformer++-stable",
        {"generator_learning_rate": 1e-2, "zero_stage": 3, "precision": "bf16"},
        marks=pytest.mark.slow,
    ),
    # What peft makes: layers in T5's place, a cache in front of the decoder's, a prompt in front of the source.
    ("lora", {}),
    *(
        pytest.param(kind, {"zero_stage": stage, "precision": precision}, marks=pytest.mark.slow)
        for kind, stage, precision in (
            ("dora", 0, "fp32"),
            ("ia3", 1, "bf16"),
            ("vera", 2, "bf16"),
            ("prefix_tuning", 2, "bf16"),
            ("prompt_tuning", 1, "bf16"),
            ("p_tuning", 0, "fp32"),
            ("lora", 2, "bf16"),
            ("dora", 2, "bf16"),
            ("p_tuning", 1, "bf16"),
        )
    ),
    # The first steps are skipped: their loss scale is too large.
    (
        "adapters_dagger",
        {"precision": "fp16", "gradient_accumulation_steps": 2, "faults": {"fp16_on_cpu": [11]}},
    ),
    (
        "adapters_dagger",
        {
            "zero_stage": 2,
            "precision": "bf16",
            "gradient_accumulation_steps": 2,
            "group_by_length": True,
        },
    ),
    ("hyperformer++", {"zero_stage": 3, "gradient_accumulation_steps": 2, "batching": "mixed"}),
    pytest.param(
        "hyperformer++",
        {"precision": "bf16", "gradient_accumulation_steps": 2},
        marks=pytest.mark.slow,
    ),
    pytest.param("hyperformer++", {"zero_stage": 0, "precision": "bf16"}, marks=pytest.mark.slow),
    pytest.param(
        "hyperformer++",
        {"zero_stage": 3, "precision": "fp16", "faults": {"fp16_on_cpu": [13]}},
        marks=pytest.mark.slow,
    ),
    ("hyperformer++", {"zero_stage": 1, "save_in_background": True}),
    pytest.param(
        "hyperformer++",
        {"zero_stage": 3, "deepspeed_config": str(DEEPSPEED / "zero3_offload.json")},
        marks=pytest.mark.slow,
        id="hyperformer++-offload",
    ),
]


@pytest.mark.parametrize(("config", "settings"), CASES, ids=lambda part: str(part).replace(" ", ""))
def test_killed_and_stopped_runs_end_the_same(
    config: str, settings: dict, runs: ForkedRuns, tmp_path: Path
) -> None:
    if config in METHODS and METHODS[config].extra:
        pytest.importorskip(METHODS[config].extra, reason="it is an extra")
    runs.whole(tmp_path / "whole", config, **settings)
    # Off every boundary of logging, saving and validation; then in the middle of a validation.
    # The memory check leaves no trace: the run without a cut has none.
    check = {"memory_check": True, **settings}
    stopped = runs.run(tmp_path / "cut", config, at=("step", 1), signal=signal.SIGTERM, **check)
    assert stopped.codes == [128 + signal.SIGTERM], stopped.out
    killed = runs.run(tmp_path / "cut", config, at=("step", 4), **settings)
    assert killed.codes == [-signal.SIGKILL], killed.out
    stopped = runs.run(tmp_path / "cut", config, at=("batch", 2), signal=signal.SIGUSR2, **settings)
    assert stopped.codes == [128 + signal.SIGUSR2], stopped.out
    ended = runs.whole(tmp_path / "cut", config, **check)
    assert "resuming from step 4" in ended.out and "memory check: the longest rows fit" in ended.out
    assert_same(tmp_path / "whole", tmp_path / "cut")
