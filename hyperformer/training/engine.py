"""The DeepSpeed engine."""

from __future__ import annotations

import contextlib
import io
import logging
from typing import Any

import torch
from torch import nn

from hyperformer.errors import ConfigError
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.checkpoints.parameter_shards import base_optimizer
from hyperformer.training.deepspeed_config.batch import Batch
from hyperformer.training.deepspeed_config.build import engine_config
from hyperformer.training.memory.zero_buckets import size_buckets
from hyperformer.training.optimization.optimizer import make_optimizer
from hyperformer.training.optimization.schedule import make_schedule
from hyperformer.training.ranks.distributed import DistributedContext


def make_engine(model: nn.Module, config: TrainingConfig, batch: Batch, context: DistributedContext) -> Any:
    """``deepspeed.initialize`` over `model`, whose `requires_grad` is final by now.

    Raises:
        ConfigError: the device does not have the number format, or DeepSpeed refuses the user's file.
    """
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    settings, optimizer = size_buckets(engine_config(config, batch), model), make_optimizer(model, config)
    # A schedule of the user's file is one of DeepSpeed's own.
    schedule = None if "scheduler" in settings else make_schedule(optimizer, config)
    try:
        # Its optimizer for bf16 prints how much memory each parameter group takes.
        with contextlib.redirect_stdout(io.StringIO()):
            engine, *_ = deepspeed.initialize(
                model=model,
                optimizer=optimizer,
                lr_scheduler=schedule,
                config=settings,
                dist_init_required=False,
            )
    except (ValueError, TypeError, AssertionError) as error:
        if config.deepspeed_config is None:
            raise
        # So DeepSpeed refuses settings; ours are tested, so the cause is in the file.
        raise ConfigError(f"{config.deepspeed_config}: DeepSpeed does not take it: {error}") from error
    if _reduces_nothing(engine, context):
        engine.enable_backward_allreduce = False
    return engine


def _reduces_nothing(engine: Any, context: DistributedContext) -> bool:
    """Whether reducing the gradients would leave them as they are: one rank, without ZeRO, in float32.

    DeepSpeed would copy all of them into one buffer, multiply it by one, and copy it back. Its other effect,
    a gradient of zero for a parameter that has none, is in :class:`StepNumbers`.
    """
    is_plain = engine.optimizer is base_optimizer(engine)
    return context.size == 1 and is_plain and engine.communication_data_type == torch.float32
