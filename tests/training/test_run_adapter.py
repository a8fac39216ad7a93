"""The adapter that a run leaves, on a fresh T5: the test metrics of the run's result.json, to the digit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from places import ROOT
from trained_models import make_base

from hyperformer.adapters.build import load_tokenizer
from hyperformer.adapters.save import load_adapter
from hyperformer.commands.evaluate import run_evaluate
from hyperformer.commands.inputs import Input
from hyperformer.commands.predict import Request
from hyperformer.data.splits import SplitRule, split_indices
from hyperformer.data.tasks import get_task
from hyperformer.data.toy import toy_rows
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.training.evaluation import Decoding, Evaluator
from hyperformer.training.inputs import load_run_data
from hyperformer.training.ranks.distributed import DistributedContext

ALONE = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))


def test_a_fresh_t5_with_the_adapter_is_the_model(tmp_path: Path) -> None:
    settings = {
        "model_name_or_path": make_base(tmp_path / "t5"),
        "data_source": "toy",
        "tasks": "toy-sentiment,toy-similarity",
        "decode": "rank",
        "max_steps": 4,
        "learning_rate": 1e-2,
        "warmup_steps": 0,
        "per_device_train_batch_size": 4,
        "eval_steps": 2,
        "n_train": 32,
        "n_val": 16,
        "n_test": 40,
        "cache_dir": tmp_path / "cache",
        "output_dir": tmp_path / "run",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hyperformer.cli",
            "train",
            "hyperformer++",
            *(f"{k}={v}" for k, v in settings.items()),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = RunFolder(tmp_path / "run")
    run, result = folder.read_config(), folder.read_result()
    assert result is not None
    tokenizer = load_tokenizer(run.model)
    tasks = {name: get_task(name) for name in run.data.tasks}
    data = load_run_data(run, tasks, tokenizer, ALONE)
    model = load_adapter(folder.adapter)
    evaluator = Evaluator(model, tokenizer, ALONE, 32, Decoding("rank"))
    metrics = evaluator.evaluate(tasks, "test", data.test).metrics
    assert metrics == result["test"]
    assert any(value for columns in metrics.values() for value in columns.values())
    assert f"{result['parameters']['trained']:,}" in (folder.adapter / "README.md").read_text()
    for name, values in result["test"].items():
        # The rows of the run's test split, in a file.
        chosen = split_indices(tasks[name], "test", 400, SplitRule(n_obs=40))
        rows = [toy_rows(name, "test")[row] for row in chosen]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        found = run_evaluate(
            Request(str(folder.path), name, Input(str(tmp_path / "rows.jsonl")), decode="rank")
        )
        assert (found["metrics"], found["rows"]) == (values, 40)
