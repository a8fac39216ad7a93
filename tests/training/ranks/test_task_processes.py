"""Runs of single tasks, each in a process of its own: exit codes, signals, ports, memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyperformer.settings.build import make_config
from hyperformer.training.ranks.task_processes import one_per_task, run_one_after_the_other

CHILD = """
import os, signal, sys, time
names = ("RANK", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE")
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(140))
print(*(os.environ.get(name) for name in names), file=open(sys.argv[1], "a"))
what = sys.argv[2]
if what == "wait":
    time.sleep(30)
elif what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(what))
"""


def commands(log: Path, *ends: str) -> list[list[str]]:
    return [[sys.executable, "-S", "-c", CHILD, str(log), end] for end in ends]


@pytest.mark.parametrize(
    ("ends", "code", "started"), [("000", 0, 3), (("0", "2", "0"), 2, 2), (("kill", "0"), 137, 1)]
)
def test_the_first_that_fails_ends_it(ends: tuple[str, ...], code: int, started: int, tmp_path: Path) -> None:
    assert run_one_after_the_other(commands(tmp_path / "log", *ends)) == code
    assert len((tmp_path / "log").read_text().splitlines()) == started


def test_each_task_of_several_ranks_has_a_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}
    ports = []
    for rank in range(2):
        for name, value in {**names, "RANK": str(rank), "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
            monkeypatch.setenv(name, value)
        log = tmp_path / str(rank)
        assert run_one_after_the_other(commands(log, "0", "0")) == 0
        lines = [line.split() for line in log.read_text().splitlines()]
        assert [line[0] for line in lines] == [str(rank)] * 2
        assert {line[2] for line in lines} == {"False"}  # torchrun's store knows the ranks of the task before
        ports.append([line[1] for line in lines])
    assert ports[0] == ports[1] and len({*ports[0], "29500"}) == 3


def start(log: Path) -> subprocess.Popen[bytes]:
    """A parent of its own, which waits for its first of two commands."""
    code = (
        "import sys, json; from hyperformer.training.ranks.task_processes import run_one_after_the_other as run; "
        "sys.exit(run(json.loads(sys.argv[1])))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, json.dumps(commands(log, "wait", "0"))])
    while not (log.exists() and log.read_text()):
        time.sleep(0.02)
        assert parent.poll() is None
    return parent


def test_a_signal_reaches_the_run_and_no_other_begins(tmp_path: Path) -> None:
    parent = start(tmp_path / "log")
    parent.send_signal(signal.SIGUSR2)
    assert parent.wait() == 140 and len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_killed_parent_leaves_no_run_behind(tmp_path: Path) -> None:
    parent = start(tmp_path / "log")
    (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not os.path.exists(f"/proc/{child}") or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_one_run_per_task() -> None:
    config = make_config({"single_task": True, "tasks": ["rte", "cola"], "output_dir": "o", "seed": 7})
    assert [(one.data.tasks, one.output_dir, one.seed) for one in one_per_task(config)] == [
        (("rte",), "o/rte", 7),
        (("cola",), "o/cola", 7),
    ]
    several = make_config({"tasks": ["rte", "cola"]})
    assert one_per_task(several) == [several]
