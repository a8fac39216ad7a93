"""The command line of sweeps, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from launchers.plan.plan import Run

REPOSITORY = Path(__file__).parents[2]
SWEEP = REPOSITORY / "launchers" / "sweep.py"
TOY = "{model_name_or_path: toy, data_source: toy, max_steps: 3, warmup_steps: 0, weight_decay: 0.01}"


def result_of(run: Run) -> dict[str, Any]:
    """What a run that ended well leaves in its result.json."""
    metrics = {task: {"acc": 50.0} for task in run.config.data.tasks}
    return {
        "signature": run.signature, "test": metrics, "validation": metrics,
        "parameters": {"total": 10, "trained": 1, "trained_percent_per_task": 10.0},
    }  # fmt: skip


class CommandLine:
    """``python launchers/sweep.py`` in a folder, with the fake run in its jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        fake = Path(__file__).parent / "fake_run"
        self.environment = {**os.environ, "PYTHONPATH": str(fake), "CUDA_VISIBLE_DEVICES": ""}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(SWEEP), *words],
            cwd=self.folder, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            # Started in the background, the tests ignore Ctrl-C, and what they start would too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code, and what it printed."""
        process = self.start(*words)
        out, _ = process.communicate(timeout=300)
        return process.returncode, out

    def status(self, sweep: str = "s.yaml") -> dict[str, Any]:
        """`status --json`, the runs by name."""
        _, out = self.run("status", sweep, "--json")
        record = json.loads(out)
        return {**record, "runs": {run["name"]: run for run in record["runs"]}}
