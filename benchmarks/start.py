"""What the start of a run costs: in a process of its own, and forked from the preloaded process.

    python benchmarks/start.py [RUNS]

The runs of sweeps/demo.yaml (the first RUNS of them), 20 steps each, one after the other, by one CPU thread; first each
in a fresh process, then forked. Figures are processor seconds, those of the preloaded process included. Ends with an
error if the two ways do not leave the same weights, by SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import replace
from launchers.job.run_process import RunStarter
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.store.attempts import Attempt
from launchers.store.code_snapshot import python_path

VARIABLES = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
SHORT = {"max_steps": 20, "eval_steps": 10, "save_steps": 10, "logging_steps": 1, "n_val": 64, "n_test": 64}


def used_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def train(folder: Path, starter: RunStarter) -> float:
    """Train a run; returns its processor seconds to its first step."""
    attempt = Attempt.of(folder, 1)
    process = starter.start(["--local", str(attempt.folder)], "", attempt.logs)
    first = 0.0
    while process.poll() is None:
        metrics = folder / "metrics.jsonl"
        if not first and metrics.exists() and metrics.stat().st_size:
            first = used_s(process.pid)
        time.sleep(0.005)
    if process.returncode:
        sys.exit(attempt.logs[1].read_text())
    return first


def measure(folder: Path, count: int, is_forked: bool) -> tuple[list[float], float, list[str]]:
    """Of each run the seconds to its first step, then of all the total, and of each the weights' hash."""
    folders = []
    for run in load_plan("demo", NO_PROFILE).runs[:count]:
        files = RunFolder(folder / run.name)
        Attempt.of(files.path, 1).folder.mkdir(parents=True)
        files.claim(replace(run.config, **SHORT, output_dir=str(files.path), cache_dir=str(folder.parent)))
        folders.append(files.path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    starter = RunStarter({**VARIABLES, "PYTHONPATH": python_path()}, 2 if is_forked else 1, own_sessions=True)
    firsts = [train(each, starter) for each in folders]
    if is_forked:
        assert starter._preloaded is not None
        firsts[0] += used_s(starter._preloaded._process.pid)
    starter.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    weights = [next(each.glob("adapter/*.safetensors")).read_bytes() for each in folders]
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return firsts, total, [hashlib.sha256(one).hexdigest() for one in weights]


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    with tempfile.TemporaryDirectory() as folder:
        train_once = Path(folder) / "warm-up"  # fills the cache of tokenised rows, which both ways read
        measure(train_once, count, is_forked=True)
        fresh = measure(Path(folder) / "fresh", count, is_forked=False)
        forked = measure(Path(folder) / "forked", count, is_forked=True)
    if fresh[2] != forked[2]:
        sys.exit("the weights differ")
    print(f"{'processor seconds':<28}{'own process':>12}{'forked':>10}")
    print(f"{'first run, to its first step':<28}{fresh[0][0]:>12.2f}{forked[0][0]:>10.2f}")
    for name, choose in (
        ("second run", lambda firsts: firsts[1]),
        ("the others, at most", lambda f: max(f[1:])),
    ):
        print(f"{name:<28}{choose(fresh[0]):>12.2f}{choose(forked[0]):>10.2f}")
    print(f"{f'{count} runs of 20 steps':<28}{fresh[1]:>12.2f}{forked[1]:>10.2f}")


if __name__ == "__main__":
    main()
