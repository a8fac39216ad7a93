"""DeepSpeed JSONs as people have them, each through a real engine: what it becomes, and how it resumes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import FIXTURES

WORKS = FIXTURES / "deepspeed" / "works"
# What the settings say beside each file, and what is special about its engine. The rest is as without the file.
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "transformers_zero0": ({}, {}),
    "transformers_zero1_bf16": ({"zero_stage": 1, "precision": "bf16"}, {}),
    "transformers_zero2_offload": (
        {"zero_stage": 2, "lr_scheduler": "constant_w_warmup"},
        {"offload": ["optimizer"], "schedule": "WarmupLR"},
    ),
    "transformers_zero3_offload": (
        {"zero_stage": 3},
        {"offload": ["optimizer", "param"], "schedule": "WarmupDecayLR"},
    ),
    "accelerate_all_auto": ({"zero_stage": 2, "precision": "bf16", "max_grad_norm": 0.5}, {}),
    "accelerate_plugin_zero3": ({"zero_stage": 3, "precision": "bf16"}, {}),
    "deepspeed_first_example": ({"zero_stage": 1}, {}),
    "deepspeed_warmup_decay": (
        {"zero_stage": 2, "precision": "bf16", "weight_decay": 0.01},
        {"schedule": "WarmupDecayLR"},
    ),
    "deepspeed_cosine": ({"zero_stage": 1, "lr_scheduler": "cosine"}, {"schedule": "WarmupCosineLR"}),
    "deepspeed_zero_offload": ({"zero_stage": 1, "max_grad_norm": 0}, {"offload": ["optimizer"]}),
    "deepspeed_zero3_tuned": ({"zero_stage": 3}, {}),
    "deepspeed_bf16_float32_gradients": ({"zero_stage": 1, "precision": "bf16"}, {}),
    "zero3_offload": ({"zero_stage": 3, "max_grad_norm": 0}, {"offload": ["optimizer", "param"]}),
    "everything_off": ({}, {}),
}
FORMATS = {"fp32": "float32", "bf16": "bfloat16"}
# Files that change no arithmetic. Offload is one: the norm that clips is summed in another order, so not clipped.
SAME = (
    "everything_off", "transformers_zero0", "deepspeed_first_example", "deepspeed_zero_offload",
    "deepspeed_zero3_tuned", "zero3_offload", "accelerate_plugin_zero3",
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Facts of every shape, and of engines without a file; from one process."""
    orders = {
        name: {**settings, "deepspeed_config": str(WORKS / f"{name}.json")}
        for name, (settings, _) in SHAPES.items()
    }
    orders |= {f"plain {SHAPES[name][0]}": SHAPES[name][0] for name in SAME}
    # DeepSpeed replaces torch's `linear` for stage 3, and leaves it replaced for the engines that follow.
    orders = dict(sorted(orders.items(), key=lambda order: order[1].get("zero_stage", 0)))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("deepspeed_shapes.py"))],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_file_is_tried() -> None:
    assert {path.stem for path in WORKS.glob("*.json")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_trains_as_the_settings_say_and_resumes(name: str, found: dict[str, Any]) -> None:
    settings, special = SHAPES[name]
    facts = found[name]
    assert "error" not in facts, facts
    expected = {"offload": [], "schedule": "LambdaLR", **special}
    assert {key: facts[key] for key in expected} == expected
    assert facts["stage"] == settings.get("zero_stage", 0)
    assert facts["format"] == FORMATS[settings.get("precision", "fp32")]
    assert (facts["optimizer"], facts["clipping"]) == ("AdamW", settings.get("max_grad_norm", 1.0))
    assert facts["weights"] == facts["resumed"]
    first, second = facts["rates"]
    assert first[-len(second) :] == second and first[2] == pytest.approx(1e-3, rel=0.5)


@pytest.mark.parametrize("name", SAME)
def test_a_file_that_adds_no_arithmetic_trains_the_very_same_weights(
    name: str, found: dict[str, Any]
) -> None:
    """Offload too, on a CPU: it is the same optimizer."""
    assert found[name]["weights"] == found[f"plain {SHAPES[name][0]}"]["weights"]
