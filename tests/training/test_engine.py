"""The DeepSpeed config that we make, and the user's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.deepspeed_config.batch import Batch, make_batch
from hyperformer.training.deepspeed_config.build import engine_config
from hyperformer.training.ranks.join import join


def test_batch_triangle_and_clipping() -> None:
    config = TrainingConfig(per_device_train_batch_size=4, gradient_accumulation_steps=3, max_grad_norm=0.5)
    made = engine_config(config, make_batch(config, 2))
    assert made["train_batch_size"] == 24
    assert made["gradient_clipping"] == 0.5


def test_the_users_file_with_auto(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"train_batch_size": "auto", "zero_optimization": {"stage": 2}}))
    config = TrainingConfig(deepspeed_config=str(path), per_device_train_batch_size=4)
    made = engine_config(config, make_batch(config, 2))
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
    for named, says in ((path, complaint), (tmp_path / "none.json", "cannot be read")):
        config = TrainingConfig(deepspeed_config=str(named))
        with pytest.raises(ConfigError, match=says):
            engine_config(config, make_batch(config, 1))


def test_the_global_batch_is_kept_on_other_ranks_and_with_less_memory() -> None:
    config = TrainingConfig(per_device_train_batch_size=6, gradient_accumulation_steps=2)
    assert make_batch(config, 4) == Batch(6, 2, 4, 4)
    for ranks, splits, expected in (
        (2, 1, (6, 4)),
        (1, 1, (6, 8)),
        (8, 1, (6, 1)),
        (16, 1, (3, 1)),
        (2, 4, (1, 24)),
    ):
        made = make_batch(config, ranks, micro_batch_splits=splits, global_batch_size=48)
        assert (made.micro, made.accumulation, made.global_batch_size, made.ranks_at_first) == (
            *expected,
            48,
            4,
        )
    with pytest.raises(
        ConfigError, match="5 ranks cannot share evenly; 1, 2, 3, 4, 6, 8, 12, 16, 24, 48 would"
    ):
        make_batch(config, 5, global_batch_size=48)


def test_gpus_that_do_not_work_are_not_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(HyperformerError, match="no CUDA-capable device works on .* names 0,1; unset it"):
        join()
