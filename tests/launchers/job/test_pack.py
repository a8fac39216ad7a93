"""Runs that share a job, without a SLURM: their processes are real, the training is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_command import REPOSITORY, TOY

from launchers.job import pack
from launchers.plan.plan import Plan
from launchers.slurm.this_job import JobTask
from launchers.store.attempts import attempts
from launchers.store.submissions import QueuedRun, Submission, write
from launchers.store.sweep_folder import SweepFolder


def test_each_run_ends_in_its_own_way(
    plan_of: Callable[[str], Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One succeeds, one fails for good, one is killed and starts again."""
    runs = plan_of(
        f"{{base: {TOY}, variants: [adapters], tasks: [toy-sentiment], grid: {{seed: [1, 13, 85]}}}}"
    ).runs
    queued = [QueuedRun.of(run, run.name, 1) for run in runs]
    submission = Submission(1, "j", "slurm", 1.0, "/code", [queued], job_id="7", cpus=3, shape={"pack": 3})
    record = write(SweepFolder(tmp_path), submission)
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY}/tests/launchers/fake_run:{REPOSITORY}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(pack, "_TICK_S", 0.05)
    pack.Pack(JobTask(record, submission, 0)).run_all()
    ends = {run.config.seed: [each.read_outcome() for each in attempts(tmp_path / run.name)] for run in runs}
    told = {seed: [(end.status, end.then) for end in outcomes if end] for seed, outcomes in ends.items()}
    assert told == {1: [("done", None)], 13: [("failed", "end")], 85: [("failed", "again"), ("done", None)]}
    logs = [(tmp_path / run.name / "attempts/1/stdout.log").read_text() for run in runs]
    assert [f"gpus {gpu}" in log for gpu, log in zip("010", logs, strict=True)] == [True] * 3
    assert all("threads 1" in log for log in logs)
