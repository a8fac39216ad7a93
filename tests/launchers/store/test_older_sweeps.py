"""Sweep folders of an older version: made by commit a407baa, before the modules moved into rooms.

``tests/fixtures/older_sweeps.json`` holds what it wrote: one sweep on a real SLURM, in which two runs
are done, one failed and one is queued; one on a single machine, in which one run is done, one failed,
one stopped at step 19 and one never began; and what the queued job wrote later, running its own copy of
the old code. Paths and host names are the only change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from places import FIXTURES
from sweep_command import CommandLine

from launchers.api import Sweep
from launchers.slurm import job_queue
from launchers.slurm.job_queue import SlurmJob
from launchers.submit import cancel

STAGES = json.loads((FIXTURES / "older_sweeps.json").read_text(encoding="utf-8"))
WAITING = {"18": SlurmJob("PENDING", "JobHeldUser")}


def unpack(stage: str, folder: Path) -> None:
    for name, text in STAGES[stage].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("@FOLDER@", str(folder)), encoding="utf-8")


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    unpack("before", tmp_path)
    monkeypatch.chdir(tmp_path)
    answer(monkeypatch, WAITING)
    return tmp_path


def answer(monkeypatch: pytest.MonkeyPatch, jobs: dict[str, SlurmJob]) -> None:
    def query(ids: Iterable[str], cluster: str | None = None) -> dict[str, SlurmJob]:
        return {job_id: jobs[job_id] for job_id in ids if job_id in jobs}

    monkeypatch.setattr(job_queue, "query", query)


def states(sweep: Sweep) -> dict[str, str]:
    return {status.name.rpartition("-")[2]: status.state for status in sweep.statuses()}


def test_a_sweep_on_slurm_is_read(in_folder: Path) -> None:
    sweep = Sweep.load("s.yaml", cluster="slurm")
    assert states(sweep) == {"seed1": "done", "seed13": "failed", "seed2": "pending", "seed3": "done"}
    failed, waiting = (sweep.statuses(f"*{name}")[0] for name in ("seed13", "seed2"))
    assert (failed.detail, failed.kind, failed.job_id) == ("DataError: row 7 has no label", "data", "17_1")
    assert (waiting.job_id, waiting.attempt) == ("18", 1)
    assert "its data is not what the task needs" in sweep.why()[failed.name]
    assert any(
        "row 7 has no label" in log.path.read_text() for log in sweep.logs("*seed13") if log.path.exists()
    )
    rows = sweep.results()
    assert len(rows) >= 1


def test_only_what_failed_starts_again(in_folder: Path) -> None:
    """The queued run has its job, and the next attempt of the failed one its number."""
    sweep = Sweep.load("s.yaml", cluster="slurm")
    (todo,) = sweep.dry_run().todo
    assert todo.name.endswith("seed13") and sweep.ledger.next_number(todo) == 2
    assert sweep.ledger.next_submission() == 3


def test_its_queued_job_ends_by_its_own_code(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep.load("s.yaml", cluster="slurm")
    answer(monkeypatch, {"18": SlurmJob("RUNNING")})
    assert states(sweep)["seed2"] == "running"
    unpack("later", in_folder)
    answer(monkeypatch, {"18": SlurmJob("COMPLETED")})
    assert states(sweep)["seed2"] == "done" and not [
        run for run in sweep.dry_run().todo if run.name.endswith("seed2")
    ]


def test_its_queued_job_is_cancelled(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep.load("s.yaml", cluster="slurm")
    ended: list[str] = []

    def scancel(ids: Iterable[str], cluster: str | None = None) -> dict[str, str]:
        ended.extend(ids)
        return {}

    monkeypatch.setattr(cancel.job_queue, "cancel", scancel)
    assert sweep.cancel() == ["hyperformer++-seed2"] and ended == ["18"]
    # The old code in the job looks at this file.
    assert list(in_folder.glob("runs/s/*seed2*/cancelled.json"))
    answer(monkeypatch, {"18": SlurmJob("CANCELLED")})
    assert states(sweep)["seed2"] == "cancelled"


def test_a_local_sweep_resumes(in_folder: Path, command_line: CommandLine) -> None:
    sweep = Sweep.load("l.yaml", cluster="local")
    before = {"seed1": "done", "seed13": "failed", "seed2": "stopped", "seed3": "missing"}
    assert states(sweep) == before
    code, out = command_line.run("l.yaml", "--cluster", "local")
    assert code == 1 and "3 of 4 runs to start, 1 done" in out, out
    assert states(sweep) == {**before, "seed2": "done", "seed3": "done"}
    (result,) = in_folder.glob("runs/l/*seed2*/result.json")
    assert json.loads(result.read_text())["started_at_step"] == 19
    attempts = {status.name.rpartition("-")[2]: status.attempt for status in sweep.statuses()}
    assert attempts == {"seed1": 1, "seed13": 2, "seed2": 2, "seed3": 1}
