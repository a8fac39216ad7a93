"""Trains a tiny model with one DeepSpeed JSON after the other, in one process; used by test_deepspeed_shapes.py.

Reads ``{"runs": {name: settings}, "private": ["optimizer.grad_position", ...]}`` from stdin, and writes name -> facts::

    {"zero2": {"stage": 2, "format": "float32", "rates": [...], "weights": "a hash", "resumed": "a hash", ...}}
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numeric_faults
import torch
from transformers import T5Config

from hyperformer.adapters.build import build_model
from hyperformer.errors import HyperformerError
from hyperformer.settings.build import make_config
from hyperformer.training.checkpoints import engine_state
from hyperformer.training.checkpoints.checkpoint import Checkpoints
from hyperformer.training.checkpoints.parameter_shards import loss_scaler
from hyperformer.training.deepspeed_config.batch import make_batch
from hyperformer.training.engine import make_engine
from hyperformer.training.numerics.kernels import describe_numerics, numerics_in_words
from hyperformer.training.optimization.loss import batch_loss
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.ranks.join import join
from hyperformer.training.train_state import TrainState

TASKS = ["toy-sentiment", "toy-similarity"]
STEPS, SAVED = 4, 2
BASE = {
    "tasks": TASKS, "adapter": "hypernetwork_shared", "reduction_factor": 4, "task_embedding_dim": 8,
    "projected_task_embedding_dim": 8, "task_hidden_dim": 8, "unfreeze_layer_norms": True,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 1e-3, "max_steps": 8,
    "warmup_steps": 2,
}  # fmt: skip


class Training:
    """One engine over a tiny T5 with random weights, always the same."""

    def __init__(self, settings: dict[str, Any], context: DistributedContext) -> None:
        self.config = config = make_config({**BASE, **settings})
        torch.manual_seed(0)
        t5 = T5Config(
            vocab_size=64, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
        )
        self.batch = make_batch(config.training, context.size)
        self.engine = make_engine(build_model(config, t5=t5), config.training, self.batch, context)
        self.engine.train()
        torch.manual_seed(1)  # of dropout
        self.rates: list[float] = []

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            self.rates.append(self.engine.get_lr()[0])
            for forward in range(self.batch.accumulation):
                rows = torch.Generator().manual_seed(10 * step + forward)
                source = torch.randint(3, 64, (self.batch.micro, 6), generator=rows)
                inputs = {
                    "input_ids": source,
                    "attention_mask": torch.ones_like(source),
                    "labels": source[:, :3].clone(),
                }
                self.engine.backward(batch_loss(self.engine, inputs, TASKS[step % 2], 0.1))
                self.engine.step()

    def digest(self) -> str:
        """Of the trained weights, and of all that a checkpoint would hold."""
        found = hashlib.sha256()
        held = dict(engine_state.tensors(self.engine, 0)) | engine_state.trained_weights(self.engine)
        for name in sorted(held):
            found.update(name.encode() + held[name].detach().float().contiguous().cpu().numpy().tobytes())
        return found.hexdigest()[:16]


def facts(settings: dict[str, Any], context: DistributedContext, private: list[str]) -> dict[str, Any]:
    """What an engine with these settings is and does; with a file, also how it resumes from a checkpoint."""
    first = second = Training(settings, context)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), context, 2, seed=0)
        first.train(0, SAVED)
        checkpoints.save(first.engine, TrainState(step=SAVED), 0.0)
        first.train(SAVED, STEPS)
        if "deepspeed_config" in settings:
            second = Training(settings, context)
            checkpoints.find()
            checkpoints.load(second.engine)
            second.train(SAVED, STEPS)
    engine = first.engine
    return {
        "stage": engine.zero_optimization_stage(),
        "format": str(next(engine.module.parameters()).dtype).removeprefix("torch."),
        "optimizer": type(engine_state.base_optimizer(engine)).__name__,
        "schedule": type(engine.lr_scheduler).__name__,
        "clipping": engine.gradient_clipping(),
        "offload": [part for part in ("optimizer", "param") if is_on_cpu(engine, part)],
        "rates": [first.rates, second.rates],
        "has": has(engine, private),
        "loss_scale": getattr(loss_scaler(second.engine), "cur_scale", 1.0),
        "said": numerics_in_words(describe_numerics(engine, first.config.training)),
        "weights": first.digest(),
        "resumed": second.digest(),
    }


def has(engine: Any, names: list[str]) -> list[str]:
    """Those of the names ("optimizer.grad_position") that the engine's objects have."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler  # prints when it is imported

    parameter: Any = next(p for p in engine.module.parameters() if p.requires_grad)
    mapping = getattr(parameter, "_hp_mapping", None)
    objects = {
        "engine": engine,
        "optimizer": engine.optimizer,
        "parameter": parameter,
        "mapping": mapping,
        "address": getattr(mapping, "hp_fragment_address", None),
        "half address": getattr(mapping, "lp_fragment_address", None),
        "scaler": loss_scaler(engine),
        "fp16 scaler": DynamicLossScaler(2.0**8, 1000, 1, 2, False),
    }
    return [name for name in names if hasattr(objects[name.partition(".")[0]], name.partition(".")[2])]


def keys_of_deepspeed() -> list[str]:
    """The paths of the keys that DeepSpeed's own classes have."""
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import (
        DeepSpeedZeroOffloadOptimizerConfig,
        DeepSpeedZeroOffloadParamConfig,
    )

    sections: dict[str, Any] = {
        "fp16": DeepSpeedFP16Config,
        "bf16": DeepSpeedBF16Config,
        "zero_optimization": DeepSpeedZeroConfig,
        "zero_optimization.offload_optimizer": DeepSpeedZeroOffloadOptimizerConfig,
        "zero_optimization.offload_param": DeepSpeedZeroOffloadParamConfig,
    }
    return [
        f"{section}.{field.alias or name}"
        for section, model in sections.items()
        for name, field in model.model_fields.items()
    ]


def is_on_cpu(engine: Any, part: str) -> bool:
    offload = getattr(engine, f"zero_offload_{part}")()
    return offload is not None and offload.device == "cpu"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between
    torch.set_num_threads(1)
    context = join()
    numeric_faults.fp16_on_cpu()
    found: dict[str, Any] = {}
    order = json.load(sys.stdin)
    for name, settings in order["runs"].items():
        try:
            found[name] = facts(settings, context, order["private"])
        except HyperformerError as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    found["keys of DeepSpeed"] = keys_of_deepspeed()
    json.dump(found, answers)
    answers.flush()


if __name__ == "__main__":
    main()
