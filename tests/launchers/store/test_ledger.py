"""The sweep's folder, its lock, and the standing of runs as the files tell it."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_command import result_of

from hyperformer.errors import ConfigError
from hyperformer.files import write_json
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.plan.plan import Plan
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.status.read_status import read_statuses
from launchers.status.run_status import counts
from launchers.store.attempts import Outcome, last_attempt, next_attempt, rename_damaged
from launchers.store.ledger import Ledger, LedgerError
from launchers.store.lock import LockError, holder, sweep_lock
from launchers.store.processes import describe, is_alive, this_process
from launchers.store.submissions import QueuedRun, Submission

ONE = "{variants: [hyperformer], tasks: [rte, cola]}"


@pytest.fixture
def ledger(plan_of: Callable[[str], Plan], tmp_path: Path) -> Ledger:
    return Ledger(plan_of(ONE), tmp_path / "runs")


def state_of(ledger: Ledger) -> tuple[str, str]:
    (status,), _ = read_statuses(ledger, ledger.plan.runs)
    return status.state, status.detail


def dead_process() -> dict[str, Any]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    record = describe(process.pid)
    assert is_alive(record)
    process.communicate()
    return record


def test_processes() -> None:
    assert is_alive(this_process())
    assert is_alive({**this_process(), "born": "1"}) is False  # the id was used again
    assert is_alive({**this_process(), "host": "elsewhere"}) is None
    assert is_alive(dead_process()) is False


def test_commit_keeps_earlier_runs(write_sweep: Callable[[str], Path], tmp_path: Path) -> None:
    Ledger(load_plan(str(write_sweep(ONE)), NO_PROFILE), tmp_path / "runs").commit()
    more = load_plan(str(write_sweep("{variants: [finetune], tasks: [rte, cola]}")), NO_PROFILE)
    ledger = Ledger(more, tmp_path / "runs")
    ledger.commit()
    assert {run["variant"] for run in ledger.known_runs().values()} == {"hyperformer", "finetune"}
    assert (ledger.path / "sweep.yaml").read_text() == more.text


def test_folder_of_another_sweep(write_sweep: Callable[..., Path], tmp_path: Path) -> None:
    Ledger(
        load_plan(str(write_sweep("name: a\nvariants: [finetune]")), NO_PROFILE), tmp_path / "runs"
    ).commit()
    other = load_plan(str(write_sweep("name: a\nvariants: [hyperformer]", "t.yaml")), NO_PROFILE)
    with pytest.raises(ConfigError, match=r"holds the runs of .*s.yaml; give .*t.yaml a `name:` of its own"):
        Ledger(other, tmp_path / "runs").commit()
    same = load_plan(str(write_sweep("name: a\nvariants: [finetune]", "u.yaml")), NO_PROFILE)
    Ledger(same, tmp_path / "runs").commit()  # a copy of the same file


def test_other_schema(ledger: Ledger) -> None:
    ledger.commit()
    write_json(ledger.path / "plan.json", {"schema": 99})
    with pytest.raises(LedgerError, match="schema 99"):
        ledger.check_owner()


def test_a_run_keeps_its_folder_when_its_name_changes(
    write_sweep: Callable[[str], Path], tmp_path: Path
) -> None:
    first = Ledger(
        load_plan(str(write_sweep("{variants: [finetune], base: {seed: 1}}")), NO_PROFILE), tmp_path / "runs"
    )
    run = first.plan.runs[0]
    first.new_attempt(run)
    second = Ledger(
        load_plan(str(write_sweep("{variants: [finetune], grid: {seed: [1, 2]}}")), NO_PROFILE),
        tmp_path / "runs",
    )
    renamed = second.plan.runs[0]
    assert renamed.name != run.name
    assert second.folder(renamed) == first.folder(run)


def test_attempts_are_numbered(ledger: Ledger) -> None:
    run = ledger.plan.runs[0]
    assert last_attempt(ledger.folder(run)) is None
    for number in range(1, 12):
        assert ledger.new_attempt(run).number == number
        attempt = ledger.new_attempt(run)  # the launcher died before it started the run: its number is free
        assert attempt.number == number
        attempt.write_outcome(Outcome("stopped"))
    assert rename_damaged(attempt.outcome_file) and ledger.next_number(run) == 12
    last = last_attempt(ledger.folder(run))
    assert last is not None and last.number == 11 and last_attempt(ledger.folder(run), 12) is None
    entry = QueuedRun(run.signature, run.name, ledger.folder(run).name, 15, {})
    ledger.record_submission(Submission(1, "j", "slurm", 1.0, "/code", [[entry]], job_id="7"))
    assert ledger.next_number(run) == 16  # the one that is queued has its number, and no folder yet
    assert [next_attempt(ledger.folder(run), first).number for first in (1, 11, 15)] == [12, 12, 15]
    config = json.loads((ledger.folder(run) / "config.json").read_text())
    assert config["signature"] == run.signature
    assert config["settings"]["output_dir"] == str(ledger.folder(run))


def test_local_states(ledger: Ledger) -> None:
    run = ledger.plan.runs[0]
    assert state_of(ledger) == ("missing", "")
    attempt = ledger.new_attempt(run)
    assert state_of(ledger)[0] == "missing"  # no job yet
    write_json(attempt.job_file, {"cluster": "local", "job_id": "1", **this_process()})
    assert state_of(ledger)[0] == "running"
    write_json(attempt.job_file, {"cluster": "local", "job_id": "1", **dead_process()})
    attempt.logs[1].write_text("...\nKilled by something\n")
    assert state_of(ledger) == ("lost", "its process is gone; last line of its log: Killed by something")
    attempt.write_outcome(Outcome("failed", error_type="DataError", message="bad row"))
    assert state_of(ledger) == ("failed", "DataError: bad row")
    attempt.write_outcome(Outcome("stopped"))
    assert state_of(ledger)[0] == "stopped"
    ledger.mark_cancelled(run)
    assert state_of(ledger)[0] == "cancelled"
    ledger.forget_cancelled([run])
    attempt.write_outcome(Outcome("done"))
    assert state_of(ledger) == ("lost", "it says that it is done, but result.json is not there")
    write_json(ledger.folder(run) / "result.json", result_of(run))
    assert state_of(ledger)[0] == "done"


def test_state_between_popen_and_its_record(ledger: Ledger) -> None:
    """The launcher died before it wrote job.json, but the job has told where it is."""
    attempt = ledger.new_attempt(ledger.plan.runs[0])
    write_json(attempt.started_file, {"cluster": "local", "job_id": "1", **this_process()})
    assert state_of(ledger)[0] == "running"


@pytest.mark.parametrize(
    ("job", "outcome", "expected"),
    [
        (job_queue.SlurmJob("PENDING", "Resources"), None, ("pending", "Resources")),
        (job_queue.SlurmJob("PENDING", "BeginTime"), "stopped", ("pending", "BeginTime")),  # requeued
        (job_queue.SlurmJob("RUNNING"), None, ("running", "")),
        (job_queue.SlurmJob("SUSPENDED"), None, ("running", "SUSPENDED")),
        (job_queue.SlurmJob("COMPLETING"), "failed", ("failed", "E: m")),
        (job_queue.SlurmJob("FAILED"), "failed", ("failed", "E: m")),
        (job_queue.SlurmJob("TIMEOUT"), None, ("failed", "SLURM says TIMEOUT")),
        (job_queue.SlurmJob("OUT_OF_MEMORY"), None, ("failed", "SLURM says OUT_OF_MEMORY")),
        (job_queue.SlurmJob("CANCELLED"), None, ("cancelled", "scancel")),
        (
            job_queue.SlurmJob("COMPLETED"),
            None,
            ("lost", "SLURM says COMPLETED, but result.json is not there"),
        ),
        (None, None, ("lost", "SLURM does not know job 7_1")),
        (None, "stopped", ("stopped", "m")),
    ],
)
def test_slurm_states(
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    job: job_queue.SlurmJob | None,
    outcome: str | None,
    expected: tuple[str, str],
) -> None:
    attempt = ledger.new_attempt(ledger.plan.runs[0])
    write_json(attempt.job_file, {"cluster": "slurm", "job_id": "7_1"})
    if outcome:
        attempt.write_outcome(Outcome(outcome, error_type="E", message="m", then="end"))
    monkeypatch.setattr(job_queue, "query", lambda ids: {"7_1": job} if list(ids) == ["7_1"] and job else {})
    assert state_of(ledger) == expected


def test_slurm_does_not_answer(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = ledger.new_attempt(ledger.plan.runs[0])
    write_json(attempt.job_file, {"cluster": "slurm", "job_id": "7_1"})

    def down(ids: object) -> None:
        raise ClusterError("SLURM does not answer: down")

    monkeypatch.setattr(job_queue, "query", down)
    statuses, notes = read_statuses(ledger, ledger.plan.runs)
    assert (statuses[0].state, counts(statuses)) == ("unknown", {"unknown": 1})
    assert notes == ["SLURM does not answer: down; states of jobs are the last ones known"]


def test_lock(tmp_path: Path) -> None:
    with sweep_lock(tmp_path):
        record = holder(tmp_path)
        assert record is not None and record["pid"] == os.getpid()
        with pytest.raises(LockError, match=f"submitted by process {os.getpid()} on .*remove .*.lock"), \
                sweep_lock(tmp_path):  # fmt: skip
            pass
    assert holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_stale_lock_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({**dead_process(), "since": 0}))
    with sweep_lock(tmp_path):
        assert holder(tmp_path) is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [json.dumps({"host": "elsewhere", "pid": 1, "since": 0}), "", "no json"])
def test_lock_that_cannot_be_judged_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / ".lock").write_text(text)
    with pytest.raises(LockError, match="remove"), sweep_lock(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == text


def _contend(folder: Path, count: Any) -> None:
    for _ in range(20):
        try:
            with sweep_lock(folder):
                with count.get_lock():
                    count.value += 1
                    assert count.value == 1, "two hold the lock"
                time.sleep(0.002)
                with count.get_lock():
                    count.value -= 1
        except LockError:
            time.sleep(0.001)


def test_lock_under_contention(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    count = context.Value("i", 0)
    (tmp_path / ".lock").write_text(json.dumps({**dead_process(), "since": 0}))
    workers = [context.Process(target=_contend, args=(tmp_path, count)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
