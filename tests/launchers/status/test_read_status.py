"""Who is asked how runs stand, in which order, and how often."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from sweep_command import result_of

from hyperformer.files import write_json
from hyperformer.run_files import run_lock
from hyperformer.run_files.run_folder import RunFolder
from launchers.plan.plan import Plan
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.slurm.job_queue import SlurmJob
from launchers.status import slurm_answers
from launchers.status.read_status import read_statuses
from launchers.store import waiting_runs
from launchers.store.attempts import Attempt, Outcome
from launchers.store.ledger import Ledger
from launchers.store.processes import this_process
from launchers.store.submissions import QueuedRun, Submission
from launchers.store.sweep_folder import SweepFolder
from launchers.store.waiting_runs import QueueFile


@pytest.fixture
def ledger(plan_of: Callable[[str], Plan], tmp_path: Path) -> Ledger:
    """A sweep of one run, which is in SLURM's job 7."""
    ledger = Ledger(plan_of("{variants: [hyperformer], tasks: [rte, cola]}"), tmp_path / "runs")
    (run,) = ledger.plan.runs
    write_json(ledger.new_attempt(run).started_file, {"cluster": "slurm", "job_id": "7"})
    queued = QueuedRun(run.signature, run.name, ledger.folder(run).name, 1, {})
    ledger.record_submission(Submission(1, ledger.job_name(1), "slurm", 1.0, "/code", [[queued]], job_id="7"))
    return ledger


def state_of(ledger: Ledger, max_age_s: float = 0.0) -> str:
    (status,), _ = read_statuses(ledger, ledger.plan.runs, max_age_s)
    return status.state


@pytest.mark.parametrize("slurm", [{}, {"7": SlurmJob("COMPLETED")}, {"7": SlurmJob("FAILED")}])
@pytest.mark.parametrize("end", ["done", "stopped"])
def test_a_run_that_ends_while_slurm_answers_is_not_lost(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, slurm: dict[str, SlurmJob], end: str
) -> None:
    """Its files were read before a slow squeue told of a job that had ended meanwhile."""
    (run,) = ledger.plan.runs

    def slow(ids: Iterable[str]) -> dict[str, SlurmJob]:
        if end == "done":
            write_json(ledger.folder(run) / "result.json", result_of(run))
        Attempt.of(ledger.folder(run), 1).write_outcome(Outcome(end, then="end"))
        return slurm

    monkeypatch.setattr(job_queue, "query", slow)
    assert state_of(ledger) == end


def test_a_local_run_that_ends_while_it_is_looked_at(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from launchers.status import read_facts

    (run,) = ledger.plan.runs
    attempt = Attempt.of(ledger.folder(run), 2)
    attempt.folder.mkdir()
    write_json(attempt.job_file, {"cluster": "local", "pid": 2**22 + 1, "host": "h"})

    def is_alive(record: Any) -> bool:
        attempt.write_outcome(Outcome("stopped"))  # just before it was gone
        return False

    monkeypatch.setattr(read_facts, "is_alive", is_alive)
    assert state_of(ledger) == "stopped"


def test_a_job_of_the_same_id_is_anothers(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, state in (("theirs", "lost"), (ledger.job_name(1), "running"), ("", "running")):
        job = SlurmJob("RUNNING", name=name)
        monkeypatch.setattr(job_queue, "query", lambda ids, job=job: {"7": job})
        assert state_of(ledger) == state


def test_watchers_share_one_answer(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []

    def query(ids: Iterable[str]) -> dict[str, SlurmJob]:
        asked.append(set(ids))
        return {"7": SlurmJob("RUNNING")}

    monkeypatch.setattr(job_queue, "query", query)
    assert state_of(ledger, max_age_s=60) == "running" and len(asked) == 1  # nobody has asked yet
    other = Ledger(ledger.plan, ledger.path.parent)
    assert state_of(other, max_age_s=60) == "running" and len(asked) == 1
    assert state_of(other) == "running" and len(asked) == 2  # who starts or cancels runs asks for himself
    record = slurm_answers.read_cache(ledger.paths)
    assert record is not None
    for age, times in ((50, 2), (70, 3), (-70, 4)):  # the clock of another machine may be ahead
        monkeypatch.setattr(slurm_answers.time, "time", lambda age=age, at=time.time: record.at + age)
        state_of(other, max_age_s=60)
        assert len(asked) == times


def test_an_answer_on_other_jobs_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = SweepFolder(tmp_path)
    monkeypatch.setattr(job_queue, "query", lambda ids: {"7": SlurmJob("RUNNING")})
    slurm_answers.query_jobs(paths, ["7", "8"])
    monkeypatch.setattr(job_queue, "query", lambda ids: {"9": SlurmJob("PENDING")})
    shared = slurm_answers.query_jobs(paths, ["7", "8"], max_age_s=60)
    assert shared.jobs == {"7": SlurmJob("RUNNING")} and shared.asked == {"7", "8"}  # 8: it does not know it
    assert slurm_answers.query_jobs(paths, ["7", "9"], max_age_s=60).jobs == {"9": SlurmJob("PENDING")}


def test_what_slurm_said_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(ids: object) -> None:
        raise ClusterError("SLURM does not answer: down")

    paths = SweepFolder(tmp_path)
    monkeypatch.setattr(job_queue, "query", down)
    answer = slurm_answers.query_jobs(paths, ["7"])
    assert (answer.jobs, answer.asked) == ({}, frozenset()) and "down" in answer.notes[0]
    monkeypatch.setattr(job_queue, "query", lambda ids: {"7": SlurmJob("RUNNING")})
    slurm_answers.query_jobs(paths, ["7", "8"])
    monkeypatch.setattr(job_queue, "query", down)
    answer = slurm_answers.query_jobs(paths, ["7", "8"])
    assert answer.jobs == {"7": SlurmJob("RUNNING")} and answer.asked == {"7"}  # of 8 nobody can tell now
    assert "the last ones known, less than a minute old" in answer.notes[0]


@pytest.mark.parametrize(
    "job", [{"state": 1}, {"state": []}, {"state": "RUNNING", "elapsed": "x"}, [], "x", {}]
)
def test_a_memory_that_makes_no_sense_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Any
) -> None:
    paths = SweepFolder(tmp_path)
    write_json(paths.last_known, {"at": time.time() + 1e6, "jobs": {"7": {"state": "RUNNING", "later": 1}}})
    kept = slurm_answers.read_cache(paths)
    assert kept is not None and kept.answer.jobs == {"7": SlurmJob("RUNNING")}
    assert "-" not in slurm_answers._age(kept.at)  # a clock that went back
    write_json(paths.last_known, {"at": 1.0, "jobs": {"7": job}})
    assert slurm_answers.read_cache(paths) is None


def test_runs_that_wait_in_a_queue_on_a_machine(
    plan_of: Callable[[str], Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(
        plan_of("{variants: [hyperformer], tasks: [rte, cola], grid: {seed: [1, 2, 3]}}"), tmp_path
    )
    first, second, _ = ledger.plan.runs

    def states() -> list[str]:
        return [status.state for status in read_statuses(ledger, ledger.plan.runs)[0]]

    ledger.note_not_started(second, Outcome("stopped", "held"))
    file = QueueFile(ledger.paths)
    with file.show({run.signature: ledger.next_number(run) for run in (first, second)}):
        assert states() == ["waiting", "waiting", "missing"]
        attempt = ledger.new_attempt(first)
        write_json(attempt.job_file, {"cluster": "local", **this_process()})
        assert states() == ["running", "waiting", "missing"]
        attempt.write_outcome(Outcome("failed", then="again"))
        assert states() == ["waiting", "waiting", "missing"]
        ledger.mark_cancelled(second)
        attempt.write_outcome(Outcome("failed", then="end"))
        assert states() == ["failed", "cancelled", "missing"]
        ledger.forget_cancelled([second])
        record = json.loads(ledger.paths.queue.read_text())
        write_json(ledger.paths.queue, {**record, "born": "1"})  # the launcher was killed
        assert states() == ["failed", "stopped", "missing"]
        write_json(ledger.paths.queue, {**record, "host": "elsewhere"})
        assert states() == ["failed", "waiting", "missing"]
        os.utime(ledger.paths.queue, (1.0, 1.0))  # it has not been heard of for long
        assert states() == ["failed", "stopped", "missing"]
        monkeypatch.setattr(waiting_runs, "_BEAT_S", 0.0)
        file.beat()
        assert states() == ["failed", "waiting", "missing"]
        ledger.paths.queue.write_text('{"runs": {"a": "x"}}')
        assert states() == ["failed", "stopped", "missing"]
    assert not ledger.paths.queue.exists()


def test_whoever_trains_is_seen(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a trainer that no launcher has started."""
    (run,) = ledger.plan.runs
    monkeypatch.setattr(job_queue, "query", lambda ids: {})
    attempt = Attempt.of(ledger.folder(run), 1)
    assert state_of(ledger) == "lost"
    attempt.write_outcome(Outcome("failed", then="end"))
    assert state_of(ledger) == "failed"
    with run_lock.hold(ledger.folder(run)):
        (status,), _ = read_statuses(ledger, ledger.plan.runs)
        assert status.state == "running" and f"trained by process {os.getpid()} on" in status.detail
    assert state_of(ledger) == "failed"


def test_a_trainer_whose_end_is_written_has_ended(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed on another machine, it looks alive from here until its lease is over."""
    (run,) = ledger.plan.runs
    trainer = {"host": "n1", "pid": 9}
    monkeypatch.setattr(run_lock, "holder", lambda folder: {**trainer, "since": 1.0})
    (ledger.folder(run) / run_lock.NAME).touch()
    attempt = Attempt.of(ledger.folder(run), 1)
    write_json(attempt.started_file, {"cluster": "slurm", "job_id": "7", **trainer})
    for state, shown in (("NODE_FAIL", "running"), ("TIMEOUT", "failed"), ("RUNNING", "running")):
        monkeypatch.setattr(job_queue, "query", lambda ids, state=state: {"7": SlurmJob(state)})
        assert state_of(ledger) == shown
    attempt.write_outcome(Outcome("stopped", then="end"))
    assert state_of(ledger) == "stopped"


def test_a_refusal_to_train_twice_is_no_end_of_the_run(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = ledger.plan.runs
    monkeypatch.setattr(job_queue, "query", lambda ids: {})
    Attempt.of(ledger.folder(run), 2).write_outcome(Outcome("stopped", "in use", kind="in_use", then="end"))
    assert state_of(ledger) == "lost"  # the first attempt is
    Attempt.of(ledger.folder(run), 1).write_outcome(Outcome("failed", then="end"))
    (status,), _ = read_statuses(ledger, ledger.plan.runs)
    assert (status.state, status.attempt) == ("failed", 1)
    assert ledger.next_number(run) == 3


def test_time_of_a_killed_local_run_does_not_grow(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    ledger = Ledger(plan_of("{variants: [hyperformer], tasks: [rte, cola]}"), tmp_path / "runs")
    (run,) = ledger.plan.runs
    gone = {**this_process(), "born": "1", "cluster": "local"}
    write_json(ledger.new_attempt(run).started_file, {**gone, "started": 1000.0})
    write_json(ledger.folder(run) / "state.json", {"step": 3, "max_steps": 9})
    os.utime(ledger.folder(run) / "state.json", (1040.0, 1040.0))
    (status,), _ = read_statuses(ledger, ledger.plan.runs)
    assert (status.state, status.elapsed) == ("lost", 40.0)
    heartbeat = RunFolder(ledger.folder(run)).heartbeat
    heartbeat.touch()
    os.utime(heartbeat, (1055.0, 1055.0))
    (status,), _ = read_statuses(ledger, ledger.plan.runs)
    assert status.elapsed == 55.0
