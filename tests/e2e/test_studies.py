"""The paper's studies: each file is read, and its size for two CPU cores runs from start to report."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from finished_runs import StartsHere
from places import ROOT

from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import flatten, replace
from launchers.api import QuietCallbacks, StartOptions
from launchers.job import attempt as job_attempt
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.plan.sweep_file import SWEEPS, read_stages
from launchers.slurm.submitit_executor import RankContext
from launchers.stages.advance import advance
from launchers.stages.study import Study
from launchers.submit import local_queue
from launchers.submit.start_rule import SUBMIT

# A study -> the runs of each of its stages.
STUDIES = {
    "table1-base": [93], "table1-small": [93], "table2-few-shot": [5, 705], "figure2-low-resource": [75],
    "table3-ablation": [33], "figure3-task-embeddings": [1],
}  # fmt: skip
SIZES = {name.partition("-")[0]: f"{name.partition('-')[0]}-cpu" for name in STUDIES}
# Of each size: what is left of it here, so that it takes seconds.
LEAST = """
base: {max_steps: 2, eval_steps: 2, save_steps: 2, warmup_steps: 0, n_val: 4, n_test: 4, decode: rank}
"""
LEFT = {
    "table1-cpu": "variants: [hyperformer++]\ngrid: {seed: [1], n_train: [16]}\noverrides:",
    "table2-cpu": "variants: [adapters_dagger]\ngrid: {n_train: [4]}\nstages: {transfer: {grid: {seed: [1]}}}",
    "figure2-cpu": "variants: [hyperformer++]\ngrid: {n_train: [16], seed: [1]}",
    "table3-cpu": "variants: [{without-both-norms: hyperformer}]\ngrid: {reduction_factor: [4], n_train: [16]}",
    "figure3-cpu": "tasks: [toy-sentiment, toy-similarity]\ngrid: {n_train: [16]}",
    "compare-cpu": "grid: {seed: [1], n_train: [16]}\noverrides:",
}


class InThisProcess:
    """A run that trains at once in the test's process: torch is imported once."""

    def __init__(self, attempt: Any) -> None:
        self.attempt, folder = attempt, attempt.run_folder
        config = replace(RunFolder(folder).read_config(), output_dir=str(folder))
        job_attempt._attempt(config, attempt, RankContext(0, "0", cluster="local"))

    def done(self) -> bool:
        return True


class StarterHere(StartsHere):
    run = InThisProcess


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(local_queue, "LocalStarter", StarterHere)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
    yield
    torch.set_num_threads(threads)
    for number, handler in kept.items():
        signal.signal(number, handler)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_says_what_is_the_papers_and_what_is_ours(name: str) -> None:
    path = SWEEPS.find(name)
    stages = read_stages(path).names
    plans = [load_plan(f"{path}:{stage}" if stage else str(path), NO_PROFILE) for stage in stages]
    assert [len(plan.runs) for plan in plans] == STUDIES[name]
    head = path.read_text().partition("\nextends")[0].partition("\nbase")[0]
    assert f"{name.partition('-')[0][:-1].capitalize()} {name.partition('-')[0][-1]}" in head
    assert "ours:" in head.lower() or "sweeps/table1-base.yaml" in head
    assert f"sweeps/{name}.yaml" in head and SIZES[name.partition("-")[0]] in SWEEPS.names()


def test_studies_share_their_runs() -> None:
    """What the paper shows of one training is trained once; and settings are those of the authors' configs."""
    table = load_plan("table1-base", NO_PROFILE)
    (embeddings,) = load_plan("figure3-task-embeddings", NO_PROFILE).runs
    assert embeddings.signature in {run.signature for run in table.runs}
    glue = load_plan("glue", NO_PROFILE)
    assert {run.settings_hash for run in glue.runs} == {run.settings_hash for run in table.runs}
    assert {run.resources.gpus_per_node for run in glue.runs} == {1} and glue.select is None
    schedule = {(run.config.training.max_steps, run.config.training.lr_scheduler) for run in table.runs}
    assert schedule == {(65_536, "linear")}


def test_a_constant_schedule_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "constant.yaml"
    path.write_text("extends: table1-base\nbase: {max_steps: 262144, lr_scheduler: constant}\n")
    runs = load_plan(str(path), NO_PROFILE).runs
    assert {(run.config.training.max_steps, run.config.training.lr_scheduler) for run in runs} == {
        (262_144, "constant")
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "compare-cpu" else name for name in LEFT]
)
def test_a_size_for_two_cores_runs_from_start_to_report(name: str, tmp_path: Path, train_here: None) -> None:
    file = tmp_path / f"{name}.yaml"
    file.write_text(f"extends: {SWEEPS.find(name)}\n{LEAST}{LEFT[name]}\n")
    study = Study(str(file), tmp_path / "runs", "local")
    found = advance(study, SUBMIT, StartOptions(), lambda sweep: QuietCallbacks(yes=True))
    assert found.stage is None, found
    for stage in study.names:
        sweep = study.open(stage)
        path, report = sweep.report()
        assert path.exists() and {entry.status.state for entry in report.runs} == {"done"}
    if name == "table2-cpu":
        (run,) = sweep.plan.runs
        record = json.loads((sweep.ledger.folder(run) / "result.json").read_text())
        (weights,) = {record["inputs"]["init_from"]}
        source = Path(flatten(run.config)["init_from"])
        assert (
            weights == json.loads((source / "adapter/hyperformer_adapter.json").read_text())["weights_sha256"]
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", LEFT)
def test_a_whole_size_for_two_cores(name: str, tmp_path: Path) -> None:
    """Minutes each: what a person gets who tries a study on a laptop."""
    command = [sys.executable, str(ROOT / "launchers" / "sweep.py"), name, "--cluster", "local"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
