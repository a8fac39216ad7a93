"""Whole runs by the real engine, each in a process of its own: start, kill, resume, two ranks, ZeRO stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT
from safetensors.torch import load
from training.test_resume import lines

from hyperformer.answers.verify import verify_run

ENTRY = ROOT / "hyperformer" / "finetune_t5_trainer.py"
STEPS = 12
SETTINGS = {
    "model_name_or_path": "toy",
    "data_source": "toy",
    "tasks": "toy-sentiment,toy-similarity",
    "max_steps": STEPS,
    "per_device_train_batch_size": 8,
    "warmup_steps": 2,
    "learning_rate": 1e-3,
    "reduction_factor": 8,
    "logging_steps": 2,
    "eval_steps": 6,
    "save_steps": 4,
    "n_train": 64,
    "n_val": 8,
    "n_test": 8,
}


def command(config: str, folder: Path, **settings: Any) -> list[str]:
    merged = {**SETTINGS, "cache_dir": folder.parent / "cache", "output_dir": folder, **settings}
    return [str(ENTRY), config, *(f"{key}={value}" for key, value in merged.items())]


def run(config: str, folder: Path, launcher: list[str] | None = None, **settings: Any) -> str:
    """Run to the end; returns what was printed."""
    done = subprocess.run(
        [*(launcher or [sys.executable]), *command(config, folder, **settings)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def two_ranks() -> list[str]:
    deepspeed = Path(sys.executable).with_name("deepspeed")
    return [str(deepspeed), "--num_gpus", "2", "--master_port", str(20_000 + os.getpid() % 20_000)]


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state in the newest checkpoint of a run of one rank that has ended."""
    assert (folder / "checkpoints" / "latest").read_text() == f"step-{STEPS}"
    # Not by load_file, which keeps the file mapped, and so the disk that it is on busy.
    return load((folder / "checkpoints" / f"step-{STEPS}" / "part-0.safetensors").read_bytes())


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def stop_after(
    folder: Path, step: int, number: int, config: str, **settings: Any
) -> subprocess.CompletedProcess:
    """Start a run and send it a signal once its log shows `step`."""
    process = subprocess.Popen(
        [sys.executable, "-u", *command(config, folder, **settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(f"step {step}/"):
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, "".join(seen) + out, err)


@pytest.mark.slow
def test_killed_and_started_again_ends_with_the_same_weights(tmp_path: Path) -> None:
    """As a user starts it; test_resume.py has the other variants and stages, and every moment."""
    config, settings = "hyperformer++", {"zero_stage": 1}
    run(config, tmp_path / "whole", **settings)
    killed = stop_after(tmp_path / "killed", 10, signal.SIGKILL, config, **settings)
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "killed/checkpoints/latest").read_text() == "step-8"
    out = run(config, tmp_path / "killed", **settings)
    assert "resuming from step 8 of 12" in out
    whole, again = last_weights(tmp_path / "whole"), last_weights(tmp_path / "killed")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    name = "adapter/hyperformer_adapter.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert lines(tmp_path / "whole") == lines(tmp_path / "killed")


def test_interrupt_saves_and_resumes(tmp_path: Path) -> None:
    stopped = stop_after(tmp_path / "run", 6, signal.SIGINT, "hyperformer++")
    assert stopped.returncode == 128 + signal.SIGINT
    assert "stopped by SIGINT after step" in stopped.stderr
    state = json.loads((tmp_path / "run/state.json").read_text())
    assert state["phase"] == "stopped"
    out = run("hyperformer++", tmp_path / "run")
    assert f"resuming from step {state['step']}" in out
    assert json.loads((tmp_path / "run/state.json").read_text())["phase"] == "done"
    assert "already done" in run("hyperformer++", tmp_path / "run")


def test_a_failed_first_try_does_not_keep_its_folder(tmp_path: Path) -> None:
    small = {"max_steps": 1, "warmup_steps": 0, "eval_steps": 1, "n_val": 4, "n_test": 4}
    failed = subprocess.run(
        [
            sys.executable,
            *command("adapters_dagger", tmp_path / "run", **small, model_name_or_path="/nowhere"),
        ],
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 2 and "there is no such folder" in failed.stderr
    run("adapters_dagger", tmp_path / "run", **small)


def test_a_damaged_config_is_named_with_a_way_on(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text('{"signature": "12')
    done = subprocess.run(
        [sys.executable, *command("adapters_dagger", tmp_path / "run")], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "not a JSON file" in done.stderr and "Traceback" not in done.stderr


def test_a_scripts_arguments_and_ctrl_c(tmp_path: Path) -> None:
    """As the README has it: from the package's folder, through the script."""
    words = command("", tmp_path / "run")[2:]
    process = subprocess.Popen(
        ["bash", "scripts/hyperformer++.sh", *words],
        cwd=ROOT / "hyperformer",
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step 2/"):
            os.killpg(process.pid, signal.SIGINT)
            break
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "stopped by SIGINT after step" in err
    assert (tmp_path / "run/checkpoints/latest").exists()


@pytest.mark.parametrize("reduction", [pytest.param("mean", marks=pytest.mark.slow), "sum"])
def test_two_ranks_follow_one_with_twice_the_batch(reduction: str, tmp_path: Path) -> None:
    common = {"dropout": 0, "loss_reduction": reduction, "logging_steps": 1}
    # A sum over tokens is averaged over the ranks: half of the whole batch's.
    half = 0.5 if reduction == "sum" else 1.0
    run("hyperformer++", tmp_path / "one", per_device_train_batch_size=8, **common)
    run("hyperformer++", tmp_path / "two", two_ranks(), per_device_train_batch_size=4, **common)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == STEPS
    assert two == pytest.approx([half * loss for loss in one], rel=1e-5)
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("one", "two")]
    assert results[0]["test"].keys() == results[1]["test"].keys()


def test_all_variants_make_a_result(tmp_path: Path) -> None:
    """The configs as shipped, but for size; the single-task ones in one command."""
    small = {"max_steps": 2, "eval_steps": 2, "n_val": 4, "n_test": 4}
    for config in ("finetune", "finetune_single_task", "adapters"):
        run(config, tmp_path / config, **small)
    tasks = ["toy-sentiment", "toy-similarity"]
    folders = [
        tmp_path / "finetune",
        *(tmp_path / c / t for c in ("finetune_single_task", "adapters") for t in tasks),
    ]
    for folder in folders:
        result = json.loads((folder / "result.json").read_text())
        assert set(result["test"]) == set(result["validation"]) <= set(tasks)
        found = verify_run(folder)
        assert found.findings == () and set(found.answers) == {
            (split, task) for split in ("validation", "test") for task in result["test"]
        }
        assert result["parameters"]["trained"] <= result["parameters"]["total"]
        assert result["peak_memory_bytes"] > 1e6 and result["seconds"]["train"] > 0
        assert set(result["versions"]) == {"torch", "transformers", "datasets", "deepspeed"}
        assert list((folder / "tensorboard").iterdir())


@pytest.mark.slow
def test_single_tasks_on_two_ranks_stop_and_resume(tmp_path: Path) -> None:
    """Under torchrun, whose store knows the ranks of the first task when the second begins; then under deepspeed."""
    settings = {"zero_stage": 2, "per_device_train_batch_size": 4, "max_steps": 40, "eval_steps": 40}
    torchrun = [str(Path(sys.executable).with_name("torchrun")), "--nproc_per_node", "2"]
    process = subprocess.Popen(
        [*torchrun, *command("adapters", tmp_path / "run", **settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    tasks = 0
    for line in process.stdout:
        tasks += "parameters train" in line
        if tasks == 2 and line.startswith("step 4/"):
            process.terminate()
            break
    out, err = process.communicate(timeout=300)
    assert process.returncode != 0 and "stopped by SIGTERM after step" in err, out + err
    first, second = tmp_path / "run/toy-sentiment", tmp_path / "run/toy-similarity"
    assert (first / "result.json").exists() and not (second / "result.json").exists()
    assert json.loads((second / "state.json").read_text())["phase"] == "stopped"
    out = run("adapters", tmp_path / "run", two_ranks(), **settings)
    assert out.count("already done") == 1 and "resuming from step" in out
    peaks = [json.loads((task / "result.json").read_text())["peak_memory_bytes"] for task in (first, second)]
    assert peaks[1] < 1.1 * peaks[0]


def test_a_folder_of_another_run_is_never_overwritten(tmp_path: Path) -> None:
    small = {"max_steps": 1, "warmup_steps": 0, "eval_steps": 1, "n_val": 4, "n_test": 4}
    run("adapters_dagger", tmp_path / "run", **small)
    # All but the lock, which every trainer takes before it looks.
    files = [
        path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.name != ".trainer.lock"
    ]
    before = {path: path.stat().st_mtime for path in files}
    done = subprocess.run(
        [sys.executable, *command("adapters_dagger", tmp_path / "run", **small, seed=7)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "seed (42 there, 7 now)" in done.stderr and "Traceback" not in done.stderr
    assert before == {path: path.stat().st_mtime for path in before}


def test_a_full_disk_leaves_the_last_whole_checkpoint(tmp_path: Path) -> None:
    """A real one: a tmpfs of 3 MB that the second checkpoint no longer fits into."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    settings = {"cache_dir": tmp_path / "cache", "save_total_limit": 5}
    try:
        run("hyperformer++", tmp_path / "whole", **settings)
        failed = subprocess.run(
            [sys.executable, *command("hyperformer++", disk / "run", **settings)],
            capture_output=True,
            text=True,
        )
        assert failed.returncode == 2, failed.stdout + failed.stderr
        assert "The last complete checkpoint is step-" in failed.stderr and "Traceback" not in failed.stderr
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert "resuming from step" in run("hyperformer++", disk / "run", **settings)
        whole, again = last_weights(tmp_path / "whole"), last_weights(disk / "run")
        assert all(torch.equal(whole[name], again[name]) for name in whole)
    finally:
        time.sleep(0.1)
        subprocess.run(["umount", str(disk)], check=True)
