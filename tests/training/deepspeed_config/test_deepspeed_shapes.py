"""DeepSpeed JSONs as people have them, each through a real engine: what it becomes, and how it resumes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import FIXTURES, ROOT

from hyperformer.settings.deepspeed_json.keys import KEYS
from hyperformer.settings.deepspeed_json.refused import REFUSED
from hyperformer.settings.deepspeed_json.rules import Passed

WORKS = FIXTURES / "deepspeed" / "works"
STAGE_3: dict[str, Any] = {"zero_stage": 3, "gradient_accumulation_steps": 1}  # the slowest: one forward
# What the settings say beside each file, and what is special about its engine. The rest is as without the file.
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "transformers_zero0": ({}, {}),
    "transformers_zero1_bf16": ({"zero_stage": 1, "precision": "bf16"}, {}),
    "transformers_zero2_offload": (
        {"zero_stage": 2, "lr_scheduler": "constant_w_warmup"},
        {"offload": ["optimizer"], "schedule": "WarmupLR"},
    ),
    "transformers_zero3_offload": (
        STAGE_3,
        {"offload": ["optimizer", "param"], "schedule": "WarmupDecayLR"},
    ),
    "accelerate_all_auto": ({"zero_stage": 2, "precision": "bf16", "max_grad_norm": 0.5}, {}),
    "accelerate_plugin_zero3": ({"zero_stage": 3, "precision": "bf16"}, {}),
    "deepspeed_first_example": ({"zero_stage": 1, "max_grad_norm": 0}, {}),
    "deepspeed_warmup_decay": (
        {"zero_stage": 2, "precision": "bf16", "weight_decay": 0.01},
        {"schedule": "WarmupDecayLR"},
    ),
    "deepspeed_cosine": ({"zero_stage": 1, "lr_scheduler": "cosine"}, {"schedule": "WarmupCosineLR"}),
    "deepspeed_zero_offload": ({"zero_stage": 1, "max_grad_norm": 0}, {"offload": ["optimizer"]}),
    "deepspeed_zero3_tuned": ({**STAGE_3, "max_grad_norm": 0}, {}),
    "deepspeed_bf16_float32_gradients": ({"zero_stage": 1, "precision": "bf16"}, {}),
    "zero3_offload": ({**STAGE_3, "max_grad_norm": 0}, {"offload": ["optimizer", "param"]}),
    "transformers_fp16": (
        {"zero_stage": 2, "precision": "fp16"},
        {"offload": ["optimizer"], "loss_scale": 128.0},
    ),
    "everything_off": ({}, {}),
}
FORMATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Files that change no arithmetic. Offload is one: the norm that clips is summed in another order, so not clipped.
SAME = (
    "everything_off", "transformers_zero0", "deepspeed_first_example", "deepspeed_zero_offload",
    "deepspeed_zero3_tuned", "zero3_offload",
)  # fmt: skip

# Every undocumented attribute of DeepSpeed that we use, and the engines that have it.
OF_ALL = {
    "engine.global_steps", "engine.global_samples", "engine.skipped_steps",
    "fp16 scaler.cur_scale", "fp16 scaler.cur_iter", "fp16 scaler.last_overflow_iter", "fp16 scaler.cur_hysteresis",
}  # fmt: skip
# In half precision; in float32, stage 0 has no wrapper.
OF_STAGE_0 = {"optimizer.optimizer", "optimizer.fp16_groups"}
OF_STAGE_1 = {
    "optimizer.optimizer", "optimizer.update_lp_params", "parameter._hp_mapping", "mapping.hp_fragment_address",
    "mapping.lp_fragment_address", "mapping.param_group_index", "address.start", "address.numel",
    "half address.start",
}  # fmt: skip
OF_STAGE_3 = {
    "optimizer.optimizer", "optimizer.grad_position", "optimizer.get_param_id", "optimizer._get_param_partition_rank",
    "optimizer.sub_group_to_group_id", "optimizer.fp32_partitioned_groups_flat",
    "optimizer.checkpoint_event_prologue", "optimizer.checkpoint_event_epilogue", "parameter.ds_numel",
    "parameter.ds_tensor",
}  # fmt: skip
PRIVATE = OF_ALL | OF_STAGE_0 | OF_STAGE_1 | OF_STAGE_3


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Facts of every shape, and of engines without a file; from one process."""
    orders = {
        name: {**settings, "deepspeed_config": str(WORKS / f"{name}.json")}
        for name, (settings, _) in SHAPES.items()
    }
    orders |= {f"plain {SHAPES[name][0]}": SHAPES[name][0] for name in SAME}
    orders["half precision in stage 0"] = {"zero_stage": 0, "precision": "bf16"}
    # DeepSpeed replaces torch's `linear` for stage 3, and leaves it replaced for the engines that follow.
    orders = dict(sorted(orders.items(), key=lambda order: order[1].get("zero_stage", 0)))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[1] / "deepspeed_shapes.py")],
        input=json.dumps({"runs": orders, "private": sorted(PRIVATE)}),
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
    expected = {"offload": [], "schedule": "LambdaLR", "loss_scale": 1.0, **special}
    assert {key: facts[key] for key in expected} == expected
    assert facts["stage"] == settings.get("zero_stage", 0)
    assert facts["format"] == FORMATS[settings.get("precision", "fp32")]
    assert (facts["optimizer"], facts["clipping"]) == ("AdamW", settings.get("max_grad_norm", 1.0))
    assert ("offload_optimizer.device cpu" in facts["said"]) == ("optimizer" in expected["offload"])
    assert facts["weights"] == facts["resumed"]
    first, second = facts["rates"]
    assert first[-len(second) :] == second and first[2] == pytest.approx(1e-3, rel=0.5)


@pytest.mark.parametrize("name", SAME)
def test_a_file_that_adds_no_arithmetic_trains_the_very_same_weights(
    name: str, found: dict[str, Any]
) -> None:
    """Offload too, on a CPU: it is the same optimizer."""
    assert found[name]["weights"] == found[f"plain {SHAPES[name][0]}"]["weights"]


def test_the_tables_have_every_key_of_deepspeed(found: dict[str, Any]) -> None:
    ours, theirs = {*KEYS, *REFUSED}, set(found["keys of DeepSpeed"])
    assert len(theirs) > 60
    assert not {key for key in theirs - ours if not any(path.startswith(f"{key}.") for path in ours)}
    passed = {key for key, rule in KEYS.items() if isinstance(rule, Passed)}
    assert not {key for key in passed if key.startswith(("fp16.", "bf16.", "zero_optimization."))} - theirs


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("half precision in stage 0", OF_STAGE_0),
        ("deepspeed_first_example", OF_STAGE_1),
        ("deepspeed_zero_offload", OF_STAGE_1),
        ("transformers_zero2_offload", OF_STAGE_1),
        ("deepspeed_bf16_float32_gradients", OF_STAGE_1),
        ("deepspeed_zero3_tuned", OF_STAGE_3),
        ("zero3_offload", OF_STAGE_3),
    ],
)
def test_deepspeed_has_the_private_attributes_that_we_use(
    name: str, expected: set[str], found: dict[str, Any]
) -> None:
    missing = (expected | OF_ALL) - set(found[name]["has"])
    assert not missing, (
        f"DeepSpeed has changed: see hyperformer/training/checkpoints/parameter_shards.py: {missing}"
    )


def test_one_file_uses_them() -> None:
    kinds = ("optimizer.", "parameter.", "mapping.")
    private = {name.partition(".")[2] for name in PRIVATE if name.startswith(kinds)} - {"optimizer"}
    package = ROOT / "hyperformer"
    users = {
        path.relative_to(package).as_posix(): {name for name in private if name in path.read_text()}
        for path in package.rglob("*.py")
    }
    assert {path: names for path, names in users.items() if names} == {
        "training/checkpoints/parameter_shards.py": private,
        "adapters/parameters.py": {"ds_numel"},
    }
