"""Follow one of the authors' short trainings with our loop, engine, sampler, collator and schedule.

    python tests/e2e/reference_training.py FOLDER SPIECE_MODEL OUTPUT     # prints JSON

A process of its own, since it joins a process group. FOLDER is one of the
reference's ``e2e/``; OUTPUT an empty folder for the run's files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import load_file
from transformers import T5Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "adapters"))
from agreement import reference_model

from hyperformer.adapters.build import mark_trained
from hyperformer.adapters.reference import CROSS_BIAS, reference_state_dict
from hyperformer.data.collate import IGNORED, collate
from hyperformer.data.tasks import get_task
from hyperformer.run_files.recovery import Recovery
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import make_config
from hyperformer.settings.schema import RunConfig
from hyperformer.training.checkpoints.checkpoint import Checkpoints
from hyperformer.training.deepspeed_config.batch import make_batch
from hyperformer.training.engine import make_engine
from hyperformer.training.inputs import RunData, load_run_data, make_sampler
from hyperformer.training.log import RunLog
from hyperformer.training.loop import Trainer
from hyperformer.training.ranks.join import join
from hyperformer.training.signals import StopFlag

TASKS = ["cola", "mrpc", "stsb"]
# Rows at the end of each task's list that are its validation set; training has those before.
VALIDATION_ROWS = 10


def write_rows(golden: dict, folder: Path) -> None:
    for task, rows in golden["rows"].items():
        (folder / task).mkdir(parents=True)
        for split, part in (("train", rows[:-VALIDATION_ROWS]), ("validation", rows[-VALIDATION_ROWS:])):
            lines = "".join(json.dumps(row) + "\n" for row in part)
            (folder / task / f"{split}.jsonl").write_text(lines)


def settings(golden: dict, output: Path) -> RunConfig:
    theirs = golden["training_args"]
    return make_config(
        {
            "tasks": TASKS,
            "data_source": "folder",
            "data_dir": str(output / "rows"),
            "cache_dir": str(output / "cache"),
            "output_dir": str(output / "run"),
            "task_prefix": golden["add_prefix"],
            "reference_splits": True,
            "reference_sampler": True,
            "max_source_length": 12,
            "max_target_length": 5,
            "loss_reduction": "sum",
            "reference_optimizer": True,
            "logging_steps": 1,
            "eval_steps": theirs["max_steps"],
            "save_steps": theirs["max_steps"],
            "unfreeze_layer_norms": golden["variant"] != "plain_t5",
            **{
                key: theirs[key]
                for key in (
                    "max_steps", "per_device_train_batch_size", "learning_rate", "warmup_steps", "label_smoothing",
                    "temperature", "max_grad_norm", "weight_decay", "adam_epsilon",
                )
            },
        }
    )  # fmt: skip


def batches(config: RunConfig, data: RunData) -> list[dict]:
    """What the run's sampler and collator make, in the form of the fixture."""
    sampler = make_sampler(config, data, make_batch(config.training, 1))
    found = []
    for _ in range(config.training.max_steps):
        task, indices = sampler.next_batch()
        batch = collate(data.train[task], indices, pad_token_id=0)
        found.append(
            {
                "task": task,
                "input_shape": list(batch["input_ids"].shape),
                "labels": batch["labels"].masked_fill(batch["labels"] == IGNORED, 0).tolist(),
                "first_ids": batch["input_ids"][0].tolist(),
            }
        )
    return found


def main(folder: Path, spiece: Path, output: Path) -> None:
    golden = json.loads((folder / "golden.json").read_text())
    t5 = json.loads((spiece.parent / "t5_config.json").read_text())
    write_rows(golden, output / "rows")
    config = settings(golden, output)
    context = join()
    data = load_run_data(
        config,
        {name: get_task(name) for name in TASKS},
        T5Tokenizer.from_pretrained(str(spiece.parent)),
        context,
    )
    start, final = (load_file(folder / f"{name}.safetensors") for name in ("state_dict", "final"))
    # The reference held old T5's cross-attention bias at zero; today's T5 has none.
    assert not start.pop(CROSS_BIAS).any() and not final.pop(CROSS_BIAS).any()
    model = reference_model(t5, {"tasks": TASKS, **(golden["adapter_args"] or {})}, start)
    mark_trained(model, config.model)
    batch = make_batch(config.training, context.size)
    engine = make_engine(model, config.training, batch, context)
    run_folder = RunFolder(config.output_dir)
    run_folder.claim(config)
    checkpoints = Checkpoints(run_folder.checkpoints, context, keep=1, seed=config.seed)
    trainer = Trainer(config, engine, data, batch, checkpoints)
    log = RunLog(
        run_folder, trainer.state, main=True, max_steps=config.training.max_steps, recovery=Recovery()
    )
    state = trainer.train(log, StopFlag())
    steps = [json.loads(line) for line in run_folder.metrics.read_text().splitlines()]
    ours = reference_state_dict(model)
    difference = np.concatenate(
        [(ours[name] - value).abs().flatten().numpy() for name, value in final.items()]
    )
    movement = np.concatenate(
        [(start[name] - value).abs().flatten().numpy() for name, value in final.items()]
    )
    print(
        json.dumps(
            {
                "batches": batches(config, data),
                "losses": [step["loss"] for step in steps if step["split"] == "train"],
                "learning_rates": [step["learning_rate"] for step in steps if step["split"] == "train"],
                "validation": state.best_metrics,
                "weights_mean_difference": float(difference.mean()),
                "weights_mean_movement": float(movement.mean()),
            }
        )
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
