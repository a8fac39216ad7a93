"""A run that starts from another run's trained weights: it resumes, and what it leaves is the model that was tested."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load
from training.forked_runs import ForkedRuns

from hyperformer.adapters.bases.pretrained import load_tokenizer
from hyperformer.adapters.save import load_adapter
from hyperformer.data.tasks import get_task
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.training.evaluation import Decoding, Evaluator
from hyperformer.training.inputs import load_run_data
from hyperformer.training.ranks.distributed import DistributedContext

ALONE = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
ROW = "adapters.task_embeddings.weight"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load((folder / "adapter" / "hyperformer_adapter.safetensors").read_bytes())


def test_start_from_a_run(runs: ForkedRuns, tmp_path: Path) -> None:
    """The weights that are the source's and frozen now (T5's layer norms) are in what the run leaves, too."""
    source, target = tmp_path / "source", tmp_path / "target"
    runs.whole(source, max_steps=4, learning_rate=1e-2)
    values = {
        "tasks": ["toy-acceptability"],
        "init_from": str(source),
        "init_tasks": {"toy-acceptability": "toy-similarity"},
        "freeze_model_but_task_embeddings": True,
        "unfreeze_layer_norms": False,
        "save_steps": 1,
        "max_steps": 5,
    }
    assert runs.run(target, **values, at=("step", 2)).codes == [-9]
    runs.whole(target, **values)
    trained, before = weights(target), weights(source)
    assert trained.keys() == before.keys()
    assert all(torch.equal(trained[name], before[name]) for name in before if name != ROW)
    assert trained[ROW].shape[0] == 1 and 0 < (trained[ROW][0] - before[ROW][1]).abs().max() < 0.1
    folder = RunFolder(target)
    config, result = folder.read_config(), folder.read_result()
    assert result is not None and config.contents is not None and "init_from" in config.contents
    tasks = {"toy-acceptability": get_task("toy-acceptability")}
    tokenizer = load_tokenizer(config.model)
    data = load_run_data(config, tasks, tokenizer, ALONE)
    fresh = Evaluator(load_adapter(folder.adapter), tokenizer, ALONE, 2, Decoding("rank"))
    assert fresh.evaluate(tasks, "test", data.test).metrics == result["test"]
    record = json.loads((source / "adapter" / "hyperformer_adapter.json").read_text())
    assert result["inputs"]["init_from"] == record["weights_sha256"]

    file = source / "adapter" / "hyperformer_adapter.safetensors"
    file.write_bytes(file.read_bytes() + b"\0")
    changed = runs.run(target, **values)
    assert changed.codes == [2] and f"init_from ({source}) (changed)" in changed.out
