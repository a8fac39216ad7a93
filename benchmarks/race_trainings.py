"""Record the trainings that `benchmarks/race.py` replays: real ones of small grids on the toy tasks.

    nice -n 10 python benchmarks/race_trainings.py [GRID ...]   # 10 minutes of a core; resumes

Writes race_trainings.json: of each training the validation average at every evaluation (BASE has the settings).
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")
BASE: dict[str, Any] = {
    "model_name_or_path": "toy",
    "data_source": "toy",
    "max_source_length": 64,
    "max_target_length": 8,
    "max_steps": 160,
    "eval_steps": 20,
    "save_steps": 160,
    "logging_steps": 160,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 100,
    "warmup_steps": 20,
    "label_smoothing": 0.0,
    "loss_reduction": "mean",
    "reduction_factor": 4,
    "decode": "rank",
    "do_test": False,
}
RATES = [1e-3, 2e-3, 4e-3, 7e-3, 1.2e-2, 2e-2, 3e-2]
_WIDTH = {"learning_rate": RATES, "reduction_factor": [2, 8]}
_SCHEDULE = {"learning_rate": RATES, "lr_scheduler": ["linear", "constant_w_warmup"]}
_WARMUP = {"learning_rate": [rate / 4 for rate in RATES], "warmup_steps": [20, 60]}
# Name -> config, task, and the grid: 14 settings each.
GRIDS: dict[str, tuple[str, str, dict[str, list[Any]]]] = {
    "adapters acceptability, width": ("adapters", "toy-acceptability", _WIDTH),
    "finetune acceptability, warm-up": ("finetune_single_task", "toy-acceptability", _WARMUP),
    "adapters acceptability, schedule": ("adapters", "toy-acceptability", _SCHEDULE),
    "adapters entailment, width": ("adapters", "toy-entailment", _WIDTH),
}
SEEDS = [1, 2]


def record(config: str, task: str, settings: dict[str, Any], seed: int) -> list[float]:
    """The validation average of one training at each evaluation, percent."""
    from hyperformer.run import run
    from hyperformer.settings.build import make_config, overlay
    from hyperformer.settings.config_files import CONFIGS, read_config_file

    with tempfile.TemporaryDirectory() as folder:
        values = overlay(read_config_file(CONFIGS.find(config)), BASE | settings)
        run(make_config({**values, "tasks": [task], "seed": seed, "output_dir": folder}))
        lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [round(line["average"], 4) for line in lines if line["split"] == "validation"]


def main(names: Sequence[str]) -> None:
    known = json.loads(FILE.read_text())["trainings"] if FILE.exists() else []
    done = {(one["grid"], json.dumps(one["settings"]), one["seed"]) for one in known}
    for grid in names or GRIDS:
        config, task, axes = GRIDS[grid]
        for values, seed in itertools.product(itertools.product(*axes.values()), SEEDS):
            settings = dict(zip(axes, values, strict=True))
            if (grid, json.dumps(settings), seed) in done:
                continue
            curve = record(config, task, settings, seed)
            known.append({"grid": grid, "settings": settings, "seed": seed, "validation": curve})
            lines = ",\n".join(map(json.dumps, known))
            FILE.write_text(f'{{"base": {json.dumps(BASE)},\n"trainings": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(sys.argv[1:])
