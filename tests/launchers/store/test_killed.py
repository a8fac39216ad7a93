"""Every command killed (SIGKILL) at seeded moments, again and again: nothing is lost, nothing starts twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_command import TOY, CommandLine

ROUNDS = int(os.environ.get("HYPERFORMER_KILLS", "6"))
RUNS = ROUNDS // 2  # so many that there is always something to start
COMMANDS = ("submit", "submit", "submit", "status", "report", "retry", "cancel", "why")


def words(command: str) -> list[str]:
    here = ["--cluster", "local"] if command in ("submit", "retry") else []
    return [command, "s.yaml", *here, *(["-y"] if command in ("cancel", "retry") else [])]


@pytest.mark.parametrize("seed", range(int(os.environ.get("HYPERFORMER_KILL_SEEDS", "1"))))
def test_kills(command_line: CommandLine, write_sweep: Callable[[str], Path], seed: int) -> None:
    base = TOY.replace("max_steps: 3", "max_steps: 8").replace("0.01", "0.05")
    seeds = ", ".join(map(str, range(16, 16 + RUNS)))
    text = f"{{base: {base}, variants: [hyperformer++], tasks: [toy-sentiment], grid: {{seed: [{seeds}]}}}}"
    write_sweep(text)
    dice = random.Random(seed)
    killed = 0
    for _ in range(ROUNDS):
        command = dice.choice(COMMANDS)
        process = command_line.start(*words(command))
        moment = time.monotonic() + dice.uniform(0.1, dice.choice((0.5, 0.5, 2.5)))
        while process.poll() is None and time.monotonic() < moment:
            time.sleep(0.005)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)  # the command alone: its runs go on
            killed += 1
        process.wait()
        status = command_line.status()  # each command works after it
        assert not {"damaged", "unknown"} & set(status["counts"]), status
        no_two_at_once(command_line.folder / "runs/s")
    print(f"killed {killed} times")
    assert killed > 1
    deadline = time.monotonic() + 300
    while command_line.status()["counts"] != {"done": RUNS}:
        code, out = command_line.run("submit", "s.yaml", "--cluster", "local")
        assert "Traceback" not in out and time.monotonic() < deadline, out
    folder = command_line.folder / "runs/s"
    no_two_at_once(folder)
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    assert not (folder / ".lock").exists()
    assert command_line.run("report", "s.yaml")[0] == 0


def no_two_at_once(folder: Path) -> None:
    """An attempt begins only after the one before it has ended, and no step is done twice."""
    for run in folder.glob("*-*"):
        starts = []
        for path in sorted(run.glob("attempts/*/stdout.log"), key=lambda path: int(path.parent.name)):
            starts += [int(step) for step in re.findall(r"start at step (\d+)", path.read_text())]
        assert starts == sorted(starts), (run, starts)
        spans = []
        for attempt in run.glob("attempts/*"):
            started, outcome = attempt / "started.json", attempt / "outcome.json"
            if started.exists():
                end = json.loads(outcome.read_text())["ended"] if outcome.exists() else float("inf")
                spans.append((json.loads(started.read_text())["started"], end))
        spans.sort()
        for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
            assert end <= start, (run, spans)
