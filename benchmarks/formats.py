"""Loss curves of one variant in every number format and ZeRO stage, side by side, on the toy tasks.

    python benchmarks/formats.py                        # the table in docs/training.md
    python benchmarks/formats.py --steps 50 --variant adapters_dagger

Without dropout, so that the formats differ in their rounding alone. DeepSpeed runs fp16 on few CPUs only; here it
is let run on any, which is slow and right. Each run is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from hyperformer.settings.build import replace
from hyperformer.settings.config_files import load_config

FORMATS = [
    ("fp32", 0),
    ("bf16", 0),
    ("bf16", 1),
    ("bf16", 2),
    ("bf16", 3),
    ("fp16", 1),
    ("fp16", 2),
    ("fp16", 3),
]
LINES = 8


def train(precision: str, stage: int, arguments: argparse.Namespace) -> tuple[list[float], dict[str, Any]]:
    """The losses of one run, a number for each of LINES equal parts, and its result."""
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    from hyperformer.run import run

    CPU_Accelerator.is_fp16_supported = lambda self: True
    torch.set_num_threads(1)  # the toy T5 is too small to share
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            load_config(arguments.variant),
            model_name_or_path="toy", data_source="toy", tasks=["toy-sentiment", "toy-similarity"], dropout=0.0,
            precision=precision, zero_stage=stage, max_steps=arguments.steps, warmup_steps=arguments.steps // 10,
            learning_rate=3e-3, loss_reduction="mean", per_device_train_batch_size=8,
            logging_steps=arguments.steps // LINES, do_eval=False, do_test=False, output_dir=folder,
        )  # fmt: skip
        result = run(config)
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [line.get("loss", math.nan) for line in lines if line["split"] == "train"], result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--variant", default="hyperformer++")
    parser.add_argument("--steps", type=int, default=160)
    arguments = parser.parse_args()
    # One at a time: they would share the cores. A process that has had an engine keeps some of it.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        runs = list(pool.map(train, *zip(*FORMATS, strict=True), [arguments] * len(FORMATS)))
    names = [f"{precision}, stage {stage}" for precision, stage in FORMATS]
    rows = [["loss of steps", *names]]
    part = arguments.steps // LINES
    for number in range(LINES):
        told = f"{number * part + 1} to {(number + 1) * part}"
        rows.append([told, *(f"{losses[number]:.4f}" for losses, _ in runs)])
    rows.append(["skipped steps", *(str(result["skipped_steps"]) for _, result in runs)])
    rows.insert(1, ["---"] * len(rows[0]))
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))


if __name__ == "__main__":
    main()
