"""The DeepSpeed config that we make, and the user's."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from test_model import batch as rows
from test_model import make_model

from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.deepspeed_config.batch import Batch, make_batch
from hyperformer.training.deepspeed_config.build import engine_config
from hyperformer.training.engine import make_engine
from hyperformer.training.numerics.step_numbers import StepNumbers
from hyperformer.training.optimization.loss import batch_loss
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.ranks.join import join
from hyperformer.training.train_state import TrainState


def test_batch_triangle_and_clipping() -> None:
    config = TrainingConfig(per_device_train_batch_size=4, gradient_accumulation_steps=3, max_grad_norm=0.5)
    made = engine_config(config, make_batch(config, 2))
    assert made["train_batch_size"] == 24
    assert made["gradient_clipping"] == 0.5


def test_the_users_file_adds_to_the_settings(tmp_path: Path) -> None:
    """Its "auto" values, and the keys that it lacks, are what the settings say."""
    theirs = {
        "train_batch_size": "auto",
        "bf16": {"enabled": "auto", "check_grad_overflow": False},
        "optimizer": {"type": "Adam", "params": {"lr": "auto"}},
        "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_min_lr": "auto"}},
        "zero_optimization": {"reduce_bucket_size": 5e8, "stage3_gather_16bit_weights_on_model_save": True},
    }
    (tmp_path / "ds.json").write_text(json.dumps(theirs))
    config = TrainingConfig(
        deepspeed_config=str(tmp_path / "ds.json"),
        per_device_train_batch_size=4,
        precision="bf16",
        zero_stage=2,
    )
    made = engine_config(config, make_batch(config, 2))
    assert (
        made["train_batch_size"] == 8 and made["gradient_clipping"] == 1.0
    )  # silence means 1.0 to DeepSpeed too
    assert made["bf16"] == {"enabled": True, "check_grad_overflow": False}
    assert made["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 500_000_000}
    steps = {"total_num_steps": 65_536, "warmup_max_lr": 3e-4, "warmup_num_steps": 500}
    assert made["scheduler"] == {"type": "WarmupDecayLR", "params": steps} and "optimizer" not in made
    # Fewer ranks, and micro-batches split after a GPU ran out of memory: the file may have the settings' numbers.
    (tmp_path / "ds.json").write_text('{"train_micro_batch_size_per_gpu": 4, "train_batch_size": 8}')
    made = engine_config(config, make_batch(config, 1, micro_batch_splits=2, global_batch_size=8))
    assert (made["train_micro_batch_size_per_gpu"], made["gradient_accumulation_steps"]) == (2, 4)


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


def _train_on_one_rank(
    config: TrainingConfig, context: DistributedContext, ranks: int
) -> tuple[bool, list[torch.Tensor]]:
    model: Any = make_model("hypernetwork_shared")
    model.unused = torch.nn.Parameter(torch.ones(3))
    told = dataclasses.replace(context, size=ranks)
    engine = make_engine(model, config, Batch(6, 2, 1, 1), told)
    engine.train()
    numbers = StepNumbers(engine, TrainState(), context, 0.0, lambda: None)
    if ranks > 1:
        del engine.clip_fp32_gradients  # then DeepSpeed's own clips
    norms = []
    for _ in range(4):
        loss = batch_loss(engine, rows(), "mrpc", 0.1)
        engine.backward(loss)
        numbers.after_backward(loss)
        norms.append(numbers.gradient_norm() or 0.0)
    # The first step is not clipped, the second is.
    assert norms[1] < config.max_grad_norm < norms[3]
    assert not torch.equal(model.unused, torch.ones(3))
    return engine.enable_backward_allreduce, [parameter.detach() for parameter in model.parameters()]


def _compare_with_reduction() -> None:
    context = join()
    for reference in (False, True):
        config = TrainingConfig(
            weight_decay=0.1, warmup_steps=0, max_grad_norm=27.7, reference_optimizer=reference
        )
        is_reduced, expected = _train_on_one_rank(config, context, 2)  # in a group of one all the same
        assert is_reduced
        is_reduced, weights = _train_on_one_rank(config, context, 1)
        assert not is_reduced and all(map(torch.equal, weights, expected))


def test_one_rank_trains_as_if_deepspeed_reduced_and_clipped_its_gradients() -> None:
    """Weights are bit-identical, also of a parameter that no step uses: weight decay moves it."""
    # Not forked: the threads of products do not live on in a fork, and a large product would wait for them.
    process = multiprocessing.get_context("spawn").Process(target=_compare_with_reduction)
    process.start()
    process.join()
    assert process.exitcode == 0
