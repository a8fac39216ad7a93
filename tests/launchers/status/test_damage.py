"""Files of a sweep that were damaged, deleted, or written by another version: told, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sweep_command import TOY, CommandLine, result_of

from hyperformer.files import write_json
from hyperformer.run_files.run_folder import RunFolder
from launchers.plan.plan import Plan
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.status.read_status import read_statuses
from launchers.status.run_status import RunStatus
from launchers.store import processes, submissions
from launchers.store.ledger import Ledger
from launchers.store.records import DamagedRecord, LedgerError, read_record
from launchers.store.submissions import QueuedRun, Submission

TWO = "{variants: [hyperformer], tasks: [rte, cola], grid: {seed: [1, 2]}}"
ENDED = {"status": "failed", "error_type": "E", "message": "m", "ended": 1.0}


@pytest.fixture
def ledger(plan_of: Callable[[str], Plan], tmp_path: Path) -> Ledger:
    return Ledger(plan_of(TWO), tmp_path / "runs")


def states(ledger: Ledger) -> list[str]:
    return [status.state for status in read_statuses(ledger, ledger.plan.runs)[0]]


def first(ledger: Ledger) -> RunStatus:
    return read_statuses(ledger, ledger.plan.runs)[0][0]


def ended_run(ledger: Ledger) -> Path:
    """The first run, with every file that it can have; the second is done."""
    for run in ledger.plan.runs:
        attempt = ledger.new_attempt(run)
        gone = {"host": processes.this_process()["host"], "pid": 2**22 + 1, "born": "1"}
        write_json(attempt.job_file, {"cluster": "local", "job_id": "1", **gone})
        write_json(attempt.started_file, {"cluster": "local", "job_id": "1", "started": 0.5, **gone})
        write_json(attempt.outcome_file, ENDED)
        write_json(ledger.folder(run) / "state.json", {"phase": "failed", "step": 3})
    write_json(ledger.folder(ledger.plan.runs[1]) / "result.json", result_of(ledger.plan.runs[1]))
    return ledger.folder(ledger.plan.runs[0])


GARBAGE = [b"", b'{"status": "fai', b"\x00\x01\xff", b"[1, 2]", b'"text"', b"[" * 20_000, b'{"x": "\\ud800"}']


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("name", ["outcome.json", "job.json", "started.json", "state.json", "config.json"])
def test_one_damaged_file_is_one_runs_trouble(ledger: Ledger, name: str, text: bytes) -> None:
    folder = ended_run(ledger)
    path = next(folder.rglob(name))
    path.write_bytes(text)
    status = first(ledger)
    if name == "state.json":  # hides the progress, and nothing else
        assert (status.state, status.detail, status.step) == ("failed", "E: m", None)
    else:
        assert status.state == "damaged" and status.detail.startswith(
            f"{path.relative_to(folder)} is damaged ("
        )
        assert "submit renames it" in status.detail
    assert states(ledger)[1] == "done"


WRONG: list[dict[str, Any]] = [
    {}, {"signature": None}, {"test": None}, {"test": {"rte": 3}}, {"test": {"rte": {"acc": "high"}}},
    {"validation": []}, {"parameters": {}}, {"parameters": {"total": 1, "trained": 1}}, {"seconds": {"train": "x"}},
    {"parameters": {"total": 9, "trained": 3, "trained_percent_per_task": 0}},
    {"signature": "0123456789"}, {"test": {"rte": {"acc": True}}}, {"ranks": 0}, {"ranks": "2"}, {"steps": "many"},
    {"inputs": []}, {"inputs": {"rows": []}}, {"numerics": 3}, {"versions": []}, {"answers": {"test": 3}},
    {"test": {"rte": {"acc": 850.0}}}, {"validation_average": -101.0},
    {"one_class": {"last": 5}}, {"one_class": {"kept": {"rte": 1}}}, {"git_commit": 7},
    {"drawn": {"rte": {"rows": 0, "share": 1.0, "drawn": 3}}}, {"drawn": {"rte": 3}},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_result_is_whole_or_none(ledger: Ledger, wrong: dict[str, Any]) -> None:
    folder, result = ended_run(ledger), result_of(ledger.plan.runs[0])
    write_json(folder / "result.json", result)
    assert first(ledger).state == "done"
    write_json(folder / "result.json", {**result, **wrong} if wrong else {})
    status = first(ledger)
    assert status.state == "damaged" and "result.json is damaged" in status.detail


def test_a_damaged_result_is_renamed_and_the_run_resumes(
    command_line: CommandLine, write_sweep: Callable[[str], Path]
) -> None:
    write_sweep(f"{{base: {TOY}, variants: [adapters], tasks: [toy-sentiment, toy-paraphrase]}}")
    assert command_line.run("s.yaml", "--cluster", "local")[0] == 0
    result = min(command_line.folder.glob("runs/s/*-*/result.json"))
    for attempt, text in ((2, "{}"), (3, '{"signature": "')):
        result.write_text(text)
        result.with_name("config.json").write_text("")
        for command in ("status", "report", "why", "plan", "logs"):
            code, out = command_line.run(command, "s.yaml", *(["*"] if command == "logs" else []))
            assert code in (0, 1) and "Traceback" not in out, out
            if command in ("status", "why"):
                assert "result.json is damaged" in out and "config.json is damaged" in out
        code, out = command_line.run("s.yaml", "--cluster", "local")
        assert code == 0 and "1 of 2 runs to start, 1 done" in out, out
        assert "result.json was damaged and is result.json.damaged" in out
        (run,) = [run for run in command_line.status()["runs"].values() if run["attempt"] == attempt]
        assert run["state"] == "done" and json.loads(result.read_text())["started_at_step"] == 3
    assert {entry.name for entry in result.parent.glob("result.json.*")} == {
        "result.json.damaged", "result.json.damaged2"
    }  # fmt: skip


def test_a_run_of_a_newer_version_is_left_alone(ledger: Ledger) -> None:
    folder = ended_run(ledger)
    result = {**result_of(ledger.plan.runs[0]), "schema": 2}
    write_json(folder / "result.json", result)
    status = first(ledger)
    assert (
        status.state == "unknown"
        and "newer version of HyperFormer (schema 2, this one knows 1)" in status.detail
    )
    assert not status.is_active  # nobody waits for it


@pytest.mark.parametrize("name", ["plan.json", "config.json", "outcome.json", "state.json", "job.json"])
def test_schema_of_every_record(tmp_path: Path, name: str) -> None:
    good = {"runs": {}, "signature": "a", "settings": {}, "status": "done", "phase": "done", "more": 1}
    write_json(tmp_path / name, good)
    assert read_record(tmp_path / name) == good  # further keys are a later version's
    write_json(tmp_path / name, {**good, "schema": 7})
    with pytest.raises(LedgerError, match="schema 7"):
        read_record(tmp_path / name)
    write_json(tmp_path / name, {**good, "schema": "new"})
    with pytest.raises(DamagedRecord):
        read_record(tmp_path / name)


def test_keys_of_a_newer_version_do_no_harm(ledger: Ledger) -> None:
    folder = ended_run(ledger)
    state = RunFolder(folder)
    write_json(state.state, {"phase": "training", "step": 2, "heartbeat": 1.0})
    read = state.read_state()
    assert read is not None and read.step == 2
    path = submissions.write(ledger.paths, submission(ledger))
    record = json.loads(path.read_text())
    assert record["schema"] == 1
    record["tasks"][0][0]["colour"] = record["colour"] = "red"
    write_json(path, record)
    ledger.refresh()
    assert ledger.submissions() == [submission(ledger)]


def submission(ledger: Ledger, **more: Any) -> Submission:
    entries = [
        [QueuedRun(run.signature, run.name, ledger.folder(run).name, 2, {"seed": run.config.seed})]
        for run in ledger.plan.runs
    ]
    values = {"number": 1, "job_name": ledger.job_name(1), "job_id": "7", **more}
    return Submission(**{"cluster": "slurm", "submitted": 1.0, "code": "/code", "tasks": entries, **values})


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b'{"schema": 2}', b"[", b'{"number": 1, "job_name": "j", "cluster": "slurm", "submitted": 1, '
     b'"code": "c", "tasks": [[{"signature": "x", "name": "x", "folder": "../..", "attempt": 1, "settings": {}}]]}'],
)  # fmt: skip
def test_a_damaged_submission_starts_nothing_twice(ledger: Ledger, text: bytes) -> None:
    ended_run(ledger)
    path = submissions.write(ledger.paths, submission(ledger))
    path.write_bytes(text)
    statuses, notes = read_statuses(ledger, ledger.plan.runs)
    assert [status.state for status in statuses] == ["unknown", "done"]  # any run may be in it, queued
    assert "submissions/1.json cannot be read" in statuses[0].detail
    assert any(f"scancel --name={ledger.job_name(1)}" in note for note in notes)
    path.rename(path.with_name("1.json.aside"))
    ledger.refresh()
    assert states(ledger)[0] == "failed"
    assert ledger.next_submission() == 2  # its jobs must not find another's record


def answer(
    monkeypatch: pytest.MonkeyPatch, ids: dict[str, str] | None, jobs: dict[str, job_queue.SlurmJob]
) -> None:
    def by_name(names: object, since: float, cluster: str | None) -> dict[str, str]:
        if ids is None:
            raise ClusterError("SLURM does not answer: down")
        return ids

    monkeypatch.setattr(job_queue, "ids_by_name", by_name)
    monkeypatch.setattr(job_queue, "query", lambda wanted: {key: jobs[key] for key in wanted if key in jobs})


def test_an_interrupted_submit(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    path = submissions.write(ledger.paths, submission(ledger, job_id=None))
    answer(monkeypatch, None, {})
    statuses, notes = read_statuses(ledger, ledger.plan.runs)
    assert {status.state for status in statuses} == {"unknown"}  # submit starts none of them
    assert "a submit was interrupted" in notes[0]
    answer(monkeypatch, {}, {})
    (ledger.path / ".lock").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert states(ledger) == ["unknown"] * 2  # it may be just going on there
    (ledger.path / ".lock").unlink()
    assert states(ledger) == ["missing"] * 2
    waiting = job_queue.SlurmJob("PENDING", "Resources")
    answer(monkeypatch, {ledger.job_name(1): "9"}, {"9_0": waiting, "9_1": waiting})
    statuses, notes = read_statuses(ledger, ledger.plan.runs)
    assert [status.state for status in statuses] == ["pending"] * 2 and "job 9" in notes[0]
    assert json.loads(path.read_text())["job_id"] == "9"


def test_a_job_runs_only_what_its_own_record_says(ledger: Ledger) -> None:
    path = submissions.write(ledger.paths, submission(ledger))
    assert submissions.read_for_job(path, "7").tasks
    with pytest.raises(LedgerError, match="not of job 8"):  # queued before submissions/ was deleted
        submissions.read_for_job(path, "8")
    submissions.write(ledger.paths, submission(ledger, job_id=None))
    assert submissions.read_for_job(path, "7").tasks  # it started before the id was written
    submissions.write(ledger.paths, submission(ledger, job_id=None, tasks=[]))
    with pytest.raises(LedgerError):  # given up as never submitted
        submissions.read_for_job(path, "7")


def test_what_was_deleted_by_hand_is_said(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def notes() -> str:
        ledger.refresh()
        return "\n".join(read_statuses(ledger, ledger.plan.runs)[1])

    waiting = job_queue.SlurmJob("PENDING", "Resources")
    answer(monkeypatch, {}, {"7_0": waiting, "7_1": waiting})
    ledger.commit()
    code = ledger.path / "code" / "abc"
    code.mkdir(parents=True)
    ledger.paths.submitit.mkdir()
    (ledger.paths.submitit / "7_submission.sh").touch()
    submissions.write(ledger.paths, submission(ledger, code=str(code)))
    assert notes() == ""
    code.rmdir()
    assert f"2 queued runs will fail: their copy of the code, {code}, is gone; cancel them" in notes()
    shutil.rmtree(ledger.paths.submitit)
    assert f"{ledger.paths.submitit} is gone" in notes()
    (ledger.path / "plan.json").unlink()
    assert "plan.json is gone" in notes()
    ledger.paths.submitit.mkdir()
    (ledger.paths.submitit / "7_submission.sh").touch()
    shutil.rmtree(ledger.path / "submissions")
    assert "submissions/ is gone" in notes()
    submissions.write(ledger.paths, submission(ledger))
    answer(monkeypatch, {}, {"7_0": job_queue.SlurmJob("COMPLETED"), "7_1": waiting})
    assert "its folder is not there any more" in first(ledger).detail


def test_a_damaged_plan_is_written_anew(ledger: Ledger) -> None:
    ledger.commit()
    (ledger.path / "plan.json").write_text('{"schema": 1, "runs": {"a": 3}}')
    assert ledger.known_runs() == {}
    ledger.commit()
    assert len(ledger.known_runs()) == 2 and (ledger.path / "plan.json.damaged").exists()


def test_clocks_that_jump(ledger: Ledger) -> None:
    ended_run(ledger)
    run = ledger.plan.runs[0]
    attempt = ledger.new_attempt(run)
    write_json(attempt.job_file, {"cluster": "local", "job_id": "1", **processes.this_process()})
    write_json(attempt.started_file, {"cluster": "local", "job_id": "1", "started": time.time() + 1e6})
    assert first(ledger).elapsed == 0.0
    write_json(attempt.outcome_file, {**ENDED, "ended": 1.0})
    assert first(ledger).elapsed == 0.0
    for path in ledger.path.rglob("*"):
        os.utime(path, (4e9, 4e9))
    assert states(ledger) == ["failed", "done"]


def test_a_run_whose_launcher_was_killed_before_it_wrote_the_process_down(ledger: Ledger) -> None:
    import subprocess
    import sys

    attempt = ledger.new_attempt(ledger.plan.runs[0])
    process = subprocess.Popen([sys.executable, "-c", "input()", str(attempt.folder)], stdin=subprocess.PIPE)
    try:
        while processes.with_argument(attempt.folder) is None:  # until it is that program
            time.sleep(0.01)
        assert first(ledger).state == "running"
    finally:
        process.communicate()
    assert first(ledger).state == "missing"


def test_a_folder_that_cannot_be_read(ledger: Ledger) -> None:
    folder = ledger.folder(ledger.plan.runs[0])
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")
    status = first(ledger)
    assert status.state == "unknown" and f"{folder} cannot be read (Not a directory)" in status.detail
