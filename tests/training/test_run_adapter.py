"""The adapter that a run leaves, on a fresh T5: answers as the run's own, bit for bit, with the settings of the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT
from trained_models import make_base

from hyperformer.adapter_folder import CONFIG_NAME
from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.adapters.record import read_record
from hyperformer.adapters.trained_model import load_trained
from hyperformer.commands.evaluate import run_evaluate
from hyperformer.commands.inputs import Input
from hyperformer.commands.predict import Predictor, Request
from hyperformer.data.splits import SplitRule, split_indices
from hyperformer.data.tasks import Task, get_task
from hyperformer.data.toy import toy_rows
from hyperformer.errors import CheckpointError
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.evaluation import Decoding, Evaluator
from hyperformer.training.inputs import load_run_data
from hyperformer.training.numerics.kernels import choose_kernels, compute_as_run
from hyperformer.training.ranks.distributed import DistributedContext

ALONE = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))


def test_a_fresh_t5_with_the_adapter_is_the_model(tmp_path: Path) -> None:
    settings = {
        "model_name_or_path": make_base(tmp_path / "t5"),
        "data_source": "toy",
        "tasks": "toy-sentiment,toy-similarity",
        "decode": "rank",
        "precision": "bf16",
        "attn_implementation": "eager",
        "deterministic": True,
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
    trained = load_trained(folder.path)
    try:
        compute_as_run(trained.model)
        assert torch.are_deterministic_algorithms_enabled()
        assert trained.model.config._attn_implementation == "eager"
        evaluator = Evaluator(trained.model, tokenizer, ALONE, 32, Decoding("rank"))
        metrics = evaluator.evaluate(tasks, "test", data.test).metrics
        assert metrics == result["test"]
        assert any(value for columns in metrics.values() for value in columns.values())
        answers_are_the_runs(tmp_path, folder, result, tasks)
    finally:
        choose_kernels(TrainingConfig(tf32=False))


def answers_are_the_runs(
    tmp_path: Path, folder: RunFolder, result: dict[str, Any], tasks: dict[str, Task]
) -> None:
    assert f"{result['parameters']['trained']:,}" in (folder.adapter / "README.md").read_text()
    for name, values in result["test"].items():
        # The rows of the run's test split, in a file.
        chosen = split_indices(tasks[name], "test", 400, SplitRule(n_obs=40))
        rows = [toy_rows(name, "test")[row] for row in chosen]
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        found = run_evaluate(
            Request(str(folder.path), name, Input(str(tmp_path / "rows.jsonl"))), tmp_path / "answers.jsonl"
        )
        assert (found["metrics"], found["rows"], found["decode"]) == (values, 40, "rank")
        assert read_probabilities(tmp_path / "answers.jsonl") == read_probabilities(
            folder.answers / f"test-{name}.jsonl"
        )
    # A folder of an earlier version has no settings: those of the run around it count.
    record = json.loads((folder.adapter / CONFIG_NAME).read_text())
    known = record.pop("answer_settings")
    (folder.adapter / CONFIG_NAME).write_text(json.dumps(record | {"format": 1}))
    assert read_record(folder.adapter / CONFIG_NAME).answer_settings == known
    shutil.copytree(folder.adapter, tmp_path / "alone" / "adapter")
    predictor = Predictor(load_trained(tmp_path / "alone" / "adapter"), name)
    assert predictor.decode == "generate" and predictor.model.dtype == torch.float32
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(CheckpointError, match="result.json: not JSON"):
        folder.result.write_text("{")
        read_record(folder.adapter / CONFIG_NAME)


def read_probabilities(path: Path) -> list[dict[str, float]]:
    return [json.loads(line)["label_logprobs"] for line in path.read_text().splitlines()]
