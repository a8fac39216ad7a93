"""What is said to help a run that has too little memory."""

from __future__ import annotations

import dataclasses

from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.deepspeed_config.batch import make_batch
from hyperformer.training.memory.memory_use import MemoryUse, explain

GIB = 2**30
# T5-base in float32 on 8 GPUs of 16 GiB: all of it trains, or adapters of a million parameters.
EVERYTHING = MemoryUse(weights=892 << 20, trained=223_000_000, width=4, stage=0, ranks=8, peak=16 * GIB)
ADAPTERS = dataclasses.replace(EVERYTHING, trained=1_000_000)


def told(use: MemoryUse, **settings: object) -> str:
    config = TrainingConfig(**settings)  # type: ignore[arg-type]
    return explain(use, config, make_batch(config, use.ranks), (128, 16))


def test_zero_is_advised_where_it_saves() -> None:
    # Stage 3 saves 7/8 of weights, gradients and both moments: 7/8 * (892 MiB + 12 bytes * 223e6).
    assert "zero_stage=3 (saves 2.9 GiB on each of 8 ranks)" in told(EVERYTHING)
    assert "zero_stage=3 (saves 0.8 GiB" not in told(ADAPTERS) and "zero_stage" in told(ADAPTERS)
    small = dataclasses.replace(ADAPTERS, weights=100 << 20)
    for use in (small, dataclasses.replace(EVERYTHING, ranks=1), dataclasses.replace(EVERYTHING, stage=3)):
        assert "zero_stage" not in told(use)


def test_the_shares_of_the_memory() -> None:
    text = told(ADAPTERS)
    assert "weights 892 MiB, gradients 4 MiB, optimizer 8 MiB" in text
    assert "activations of 32 rows of 128 + 16 tokens 15.1 GiB" in text
    half = dataclasses.replace(EVERYTHING, width=2, stage=2)
    assert half.gradients() == 2 * half.trained / 8 and half.optimizer() == 12 * half.trained / 8
    assert half.saved_by(3) == half.weights * 7 / 8


def test_what_is_set_already_is_no_advice() -> None:
    assert "gradient_checkpointing" in told(ADAPTERS) and "precision=bf16" in told(ADAPTERS)
    text = told(ADAPTERS, gradient_checkpointing=True, precision="bf16")
    assert "gradient_checkpointing" not in text and "precision" not in text
