"""A small sweep on the SLURM of these tests: its file, its states, SLURM's answers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from sweep_command import TOY, CommandLine

SLOW = TOY.replace("max_steps: 3", "max_steps: 400").replace("0.01", "0.3")
SMALL = "gpus_per_node: 0, cpus_per_task: 1, mem_gb: 0.5, time: 5"


def write(line: CommandLine, seeds: str, base: str = TOY, resources: str = SMALL, name: str = "s") -> Path:
    path = line.folder / f"{name}.yaml"
    path.write_text(f"""
renew_report: false
base: {base}
variants: [hyperformer++]
tasks: [toy-sentiment, toy-paraphrase]
grid: {{seed: [{seeds}]}}
resources: {{{resources}}}
""")
    return path


def wait_for(
    line: CommandLine, what: Callable[[dict[str, int]], bool], sweep: str = "s.yaml", seconds: float = 300
) -> None:
    end = time.monotonic() + seconds
    while not what(counts := line.status(sweep)["counts"]):
        assert time.monotonic() < end, f"it took too long: {counts}"
        time.sleep(0.5)


def slurm(line: CommandLine, *words: str) -> str:
    done = subprocess.run(words, env=line.environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
