"""A job that goes back into the queue, with pretended scontrol and sbatch; tests/cluster has real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launchers.slurm import requeue_command
from launchers.slurm.commands import ClusterError
from launchers.slurm.this_job import JobTask
from launchers.store.submissions import QueuedRun, Submission, read, write
from launchers.store.sweep_folder import SweepFolder


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Write a command of SLURM; what it is called with stands in the file that comes back."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(requeue_command, "_PATIENCE_S", 0.0)
    for name, value in (("SLURM_JOB_ID", "9"), ("SLURM_ARRAY_JOB_ID", "7"), ("SLURM_ARRAY_TASK_ID", "1")):
        monkeypatch.setenv(name, value)

    def command(name: str, script: str) -> Path:
        (tmp_path / name).write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/{name}.called\n{script}\n')
        (tmp_path / name).chmod(0o755)
        return tmp_path / f"{name}.called"

    return command


@pytest.fixture
def task(tmp_path: Path) -> JobTask:
    """The second of two tasks, job 7_1."""
    runs = [[QueuedRun(name, name, name, 1, {})] for name in ("a", "b")]
    submission = Submission(1, "j", "slurm", 1.0, "/code", runs, job_id="7", shape={"exclude": "node1"})
    return JobTask(write(SweepFolder(tmp_path / "s"), submission), submission, 1)


def test_requeue(pretend: Callable[[str, str], Path]) -> None:
    called = pretend("scontrol", "")
    requeue_command.requeue(["node3", "node4"])
    assert called.read_text() == "requeue 7_1\nupdate JobId=7_1 ExcNodeList=node3,node4\n"
    pretend("scontrol", 'echo "Job is pending execution for job 7_1" >&2; exit 1')
    requeue_command.requeue()  # a preemption has done it already
    pretend("scontrol", 'echo "scontrol: error: Requested operation is presently disabled" >&2; exit 1')
    with pytest.raises(ClusterError, match="scontrol: Requested operation is presently disabled"):
        requeue_command.requeue()


def test_resubmit_past_a_greeting(pretend: Callable[[str, str], Path], task: JobTask) -> None:
    called = pretend("sbatch", 'echo "You have submitted job 3 of 50"; echo "41;hpc2"')
    requeue_command.resubmit(task, Path("/spool/script"), ["node3"])
    assert called.read_text() == (
        "--parsable --dependency=afterany:7_1 --begin=now --array=1 --exclude=node1,node3 /spool/script\n"
    )
    assert read(task.record).task_id(1) == "41_1"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ('echo "Submitted batch job 41"', "last line is not a job id"),
        (
            'echo "sbatch: error: Note: hello" >&2; echo "sbatch: error: no" >&2; exit 1',
            "sbatch: Note: hello; no",
        ),
    ],
)
def test_a_resubmit_that_fails_is_said(
    pretend: Callable[[str, str], Path], task: JobTask, answer: str, error: str
) -> None:
    pretend("sbatch", answer)
    with pytest.raises(ClusterError, match=error):
        requeue_command.resubmit(task, Path("/spool/script"))
    assert json.loads(task.record.read_text())["job_id"] == "7" and read(task.record).task_id(1) == "7_1"


def test_a_job_that_the_sweep_would_not_know_is_cancelled(
    pretend: Callable[[str, str], Path], task: JobTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*words: object) -> None:
        raise OSError(28, "No space left on device", "note")

    pretend("sbatch", "echo 41")
    called = pretend("scancel", "")
    monkeypatch.setattr(requeue_command, "write_json", full)
    with pytest.raises(ClusterError, match="note: No space left on device"):
        requeue_command.resubmit(task, Path("/spool/script"))
    assert called.read_text() == "41\n"
