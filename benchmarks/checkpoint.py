"""What checkpoints cost: time compared with a training that never saves, and bytes per trained parameter.

    python benchmarks/checkpoint.py
    python benchmarks/checkpoint.py --model t5-base --every 5

Three equal engines take turns in one process: one never saves, one saves every few
steps, one saves in the background. A figure is the median, over the rounds, of the ratio
of wall-clock times within a round. T5 has the published size and random weights.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hyperformer.adapters.bases.published import published_t5
from hyperformer.adapters.build import build_model
from hyperformer.run_files.checkpoint_folder import checksum
from hyperformer.settings.build import replace
from hyperformer.settings.config_files import load_config
from hyperformer.training.checkpoints.checkpoint import Checkpoints
from hyperformer.training.deepspeed_config.batch import make_batch
from hyperformer.training.engine import make_engine
from hyperformer.training.optimization.loss import batch_loss
from hyperformer.training.ranks.join import join
from hyperformer.training.train_state import TrainState

TASK = "rte"


@dataclass
class Training:
    """An engine and where it saves; `checkpoints` is None for the one that never saves."""

    engine: Any
    checkpoints: Checkpoints | None
    step: int = 0
    saving: float = 0.0  # seconds for which the last save stopped the training

    def run(self, batch: dict[str, torch.Tensor], steps: int) -> float:
        """Seconds that `steps` steps and one save take."""
        started = time.perf_counter()
        for _ in range(steps):
            self.engine.backward(batch_loss(self.engine, batch, TASK, 0.1))
            self.engine.step()
            self.step += 1
            if self.checkpoints is not None:
                self.checkpoints.poll()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if self.checkpoints is not None:
            stood = time.perf_counter()
            self.checkpoints.save(self.engine, TrainState(step=self.step), 0.0)
            self.saving = time.perf_counter() - stood
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="hyperformer++")
    parser.add_argument("--model", default="t5-small")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--every", type=int, default=10, help="steps between saves")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    context = join()
    t5 = published_t5(arguments.model)
    if t5 is None:
        parser.error(f"--model {arguments.model}: name a published T5, such as t5-small")
    config = load_config(arguments.variant)
    tasks = [TASK] if config.single_task else list(config.data.tasks)
    config = replace(
        config,
        model_name_or_path=arguments.model,
        per_device_train_batch_size=arguments.batch_size,
        tasks=tasks,
    )
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(3, t5.vocab_size, (arguments.batch_size, 64), generator=generator)
    batch = {
        "input_ids": source,
        "attention_mask": torch.ones_like(source),
        "labels": source[:, :8].contiguous(),
    }
    batch = {name: tensor.to(context.device) for name, tensor in batch.items()}
    with tempfile.TemporaryDirectory() as folder:
        trainings = {}
        for name in ("never", "saving", "in the background"):
            share = make_batch(config.training, context.size)
            engine = make_engine(build_model(config, t5=t5), config.training, share, context)
            checkpoints = Checkpoints(
                Path(folder) / name.replace(" ", "-"), context, 2, seed=0, background="background" in name
            )
            trainings[name] = Training(engine, None if name == "never" else checkpoints)
        for training in trainings.values():
            training.run(batch, 2)
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append({name: t.run(batch, arguments.every) for name, t in trainings.items()})
        for training in trainings.values():
            if training.checkpoints is not None:
                training.checkpoints.wait()
        report(arguments, trainings, rounds, Path(folder))


def report(
    arguments: argparse.Namespace,
    trainings: dict[str, Training],
    rounds: list[dict[str, float]],
    folder: Path,
) -> None:
    module = trainings["never"].engine.module
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    newest = max((folder / "saving").glob("step-*"), key=lambda path: path.stat().st_mtime)
    size = sum(path.stat().st_size for path in newest.iterdir())
    largest = max(newest.iterdir(), key=lambda path: path.stat().st_size)
    started = time.perf_counter()
    checksum(largest)
    speed = largest.stat().st_size / (time.perf_counter() - started) / 1e9
    print(
        f"\n{arguments.variant} on {arguments.model}: {trained:,} trained parameters; a checkpoint has {size:,} bytes, "
        f"{size / trained:.2f} per trained parameter; it is read back and checked at {speed:.1f} GB/s"
    )
    base = statistics.median(times["never"] for times in rounds)
    print(f"{arguments.every} steps without a save: {base:.2f} s")
    for name in ("saving", "in the background"):
        ratio = statistics.median(times[name] / times["never"] for times in rounds)
        stood = trainings[name].saving
        print(
            f"one save every {arguments.every} steps, {name}: {ratio:.3f} of that; training stops "
            f"for {stood * 1e3:.0f} ms, {stood / base * arguments.every:.2f} steps"
        )


if __name__ == "__main__":
    main()
