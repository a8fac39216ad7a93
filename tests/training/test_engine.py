"""The DeepSpeed config that we make, and the user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperformer.config import TrainingConfig
from hyperformer.errors import ConfigError
from hyperformer.training.engine import deepspeed_config


def test_batch_triangle_and_clipping() -> None:
    made = deepspeed_config(
        TrainingConfig(per_device_train_batch_size=4, gradient_accumulation_steps=3, max_grad_norm=0.5),
        world_size=2,
    )
    assert made["train_batch_size"] == 24
    assert made["gradient_clipping"] == 0.5


def test_the_users_file_with_auto(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"train_batch_size": "auto", "zero_optimization": {"stage": 2}}))
    made = deepspeed_config(
        TrainingConfig(deepspeed_config=str(path), per_device_train_batch_size=4), world_size=2
    )
    assert made["train_batch_size"] == 8 and made["zero_optimization"] == {"stage": 2}
    # Silence means 1.0 to DeepSpeed; we always say it.
    assert made["gradient_clipping"] == 1.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [('{"train_batch_size": 7}', 'write "auto"'), ("[1]", "one JSON object"), ("{", "not JSON")],
)
def test_a_bad_file(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        deepspeed_config(TrainingConfig(deepspeed_config=str(path)), world_size=1)
    with pytest.raises(ConfigError, match="cannot be read"):
        deepspeed_config(TrainingConfig(deepspeed_config=str(tmp_path / "none.json")), world_size=1)
