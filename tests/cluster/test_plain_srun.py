"""``srun python finetune_t5_trainer.py`` with several tasks and no launcher: one run on all of them, or a refusal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from slurm_cluster import SlurmCluster

SMALL = (
    "model_name_or_path=toy data_source=toy tasks=toy-sentiment max_steps=2 warmup_steps=0 n_train=16 n_val=4 n_test=4 "
    "per_device_train_batch_size=2 eval_steps=2 save_steps=2 logging_steps=1 decode=rank reduction_factor=8"
)


def srun(cluster: SlurmCluster, folder: Path, more: str, *options: str) -> subprocess.CompletedProcess[str]:
    entry = f"{sys.executable} {ROOT / 'hyperformer/finetune_t5_trainer.py'} hyperformer++ {SMALL}"
    words = f"exec {entry} cache_dir={folder}/cache output_dir={folder}/run {more}"
    environment = {**cluster.environment, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    command = ["srun", "-n2", "-N1", "--mem=8G", *options, "bash", "-c", words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_tasks_are_the_ranks_of_one_run(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    # With SLURM's PMI, as many sites have it by default, each task has a rank by PMI_RANK too.
    done = srun(slurm_cluster, tmp_path, "", "--mpi=pmi2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("training rows: toy-sentiment 16; 2 x cpu") == 1
    files = {path.name for path in (tmp_path / "run/checkpoints/step-2").iterdir()}
    assert {"random-0.json", "random-1.json"} <= files
    assert json.loads((tmp_path / "run/result.json").read_text())["best_step"] == 2


@pytest.mark.slow
def test_runs_of_their_own_are_refused_and_told_how(slurm_cluster: SlurmCluster, tmp_path: Path) -> None:
    done = srun(slurm_cluster, tmp_path, "seed=$SLURM_PROCID")
    assert done.returncode != 0 and not (tmp_path / "run").exists()
    assert "rank 1 and rank 0 of this run differ in settings" in done.stderr
    assert "RANK=0 WORLD_SIZE=1 for each" in done.stderr and "Traceback" not in done.stderr
