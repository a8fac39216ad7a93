"""The summary of a run that is done: it tells what the run's own files tell, or it does not count."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_command import result_of

from hyperformer.files import write_json
from launchers.plan.plan import Plan
from launchers.status.read_status import read_statuses
from launchers.status.run_status import RunStatus
from launchers.store.attempts import Attempt, Outcome
from launchers.store.ledger import Ledger
from launchers.store.processes import this_process
from launchers.store.submissions import QueuedRun, Submission

STATE = {"phase": "done", "step": 4, "max_steps": 4, "loss": 0.5, "best_metric": 61.5, "seconds_left": None}


@pytest.fixture(params=["local", "slurm"])
def ledger(request: pytest.FixtureRequest, plan_of: Callable[[str], Plan], tmp_path: Path) -> Ledger:
    """A sweep of one run, which is done."""
    ledger = Ledger(plan_of("{variants: [hyperformer], tasks: [rte, cola]}"), tmp_path / "runs")
    (run,) = ledger.plan.runs
    attempt = ledger.new_attempt(run)
    process = {"cluster": request.param, "job_id": "7", **this_process()}
    if request.param == "local":
        write_json(attempt.job_file, {**process, "pid": 1})
    else:
        queued = QueuedRun(run.signature, run.name, ledger.folder(run).name, 1, {})
        submission = Submission(1, ledger.job_name(1), "slurm", 1.0, "/code", [[queued]], "7")
        ledger.record_submission(replace(submission, slurm_cluster="other"))
    write_json(attempt.started_file, {**process, "started": 100.0})
    write_json(ledger.folder(run) / "result.json", result_of(run))
    write_json(ledger.folder(run) / "state.json", STATE)
    attempt.write_outcome(Outcome("done"))
    return ledger


def only_status(ledger: Ledger) -> RunStatus:
    return read_statuses(ledger, ledger.plan.runs)[0][0]


def newest(ledger: Ledger) -> Attempt:
    return Attempt.of(ledger.folder(ledger.plan.runs[0]), 1)


def edit(ledger: Ledger, **values: Any) -> None:
    """Change the summary; None takes a value away."""
    path = newest(ledger).outcome_file
    record = json.loads(path.read_text())
    summary = {**record["summary"], **values}
    write_json(
        path, {**record, "summary": {key: value for key, value in summary.items() if value is not None}}
    )


def without_summary(ledger: Ledger) -> RunStatus:
    """How the run stands by its own files."""
    path = newest(ledger).outcome_file
    if path.exists():
        record = json.loads(path.read_text())
        write_json(path, {key: value for key, value in record.items() if key != "summary"})
    return only_status(ledger)


def test_it_tells_what_the_files_tell_and_they_are_not_opened(ledger: Ledger) -> None:
    summed_up = only_status(ledger)
    assert (summed_up.state, summed_up.step, summed_up.best_metric) == ("done", 4, 61.5)
    kept = {path: path.read_bytes() for path in (ledger.path).rglob("*.json") if path.name in UNREAD}
    for path in kept:
        path.write_text("{")
    assert only_status(ledger) == summed_up
    for path, data in kept.items():
        path.write_bytes(data)
    assert without_summary(ledger) == summed_up


UNREAD = ("state.json", "started.json", "config.json")


def other_result(ledger: Ledger) -> None:
    """Of as many bytes, and with the old time: only the file itself is another."""
    path = newest(ledger).run_folder / "result.json"
    old, text = path.stat(), path.read_text()
    new = path.with_name("new")
    new.write_text("".join(reversed(text)))
    os.utime(new, ns=(old.st_atime_ns, old.st_mtime_ns))
    new.replace(path)


def cut_result(ledger: Ledger) -> None:
    os.truncate(newest(ledger).run_folder / "result.json", 20)


def no_result(ledger: Ledger) -> None:
    (newest(ledger).run_folder / "result.json").unlink()


def newer_attempt(ledger: Ledger) -> None:
    attempt = Attempt.of(newest(ledger).run_folder, 2)
    attempt.folder.mkdir()
    write_json(attempt.started_file, {"cluster": "local", "job_id": "8", "started": 200.0, **this_process()})


def queued_again(ledger: Ledger) -> None:
    run = ledger.plan.runs[0]
    queued = QueuedRun(run.signature, run.name, ledger.folder(run).name, 2, {})
    ledger.record_submission(Submission(2, ledger.job_name(2), "slurm", 2.0, "/code", [[queued]], "9"))


def cut_outcome(ledger: Ledger) -> None:
    os.truncate(newest(ledger).outcome_file, 60)


def no_outcome(ledger: Ledger) -> None:
    newest(ledger).outcome_file.unlink()


EDITS: list[dict[str, Any]] = [
    {"signature": "0123456789"}, {"signature": None}, {"result": [1, 2, 3]}, {"result": "x"}, {"result": None},
    {"job": None}, {"job": {"job_id": 7}}, {"job": []}, {"progress": {"step": "4"}}, {"is_recorded": "no"},
]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [other_result, cut_result, no_result, newer_attempt, queued_again, cut_outcome, no_outcome, *EDITS],
    ids=lambda change: getattr(change, "__name__", str(change)),
)
def test_it_does_not_count_when_the_files_say_more(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, change: Callable[[Ledger], None] | dict[str, Any]
) -> None:
    monkeypatch.setattr("launchers.slurm.job_queue.query", lambda keys: {})
    before = only_status(ledger)
    if callable(change):
        change(ledger)
    else:
        edit(ledger, **change)
    after = only_status(ledger)
    if change in (other_result, cut_result, no_result):
        assert after.state != "done"
    elif not callable(change):
        assert after == before
    if change is not cut_outcome:
        after = replace(after, elapsed=None)
        assert replace(without_summary(ledger), elapsed=None) == after
    else:
        assert after.state == "done" and after.damaged


def test_keys_of_a_later_version_do_no_harm(ledger: Ledger) -> None:
    before = only_status(ledger)
    edit(
        ledger,
        more=1,
        job={**json.loads(newest(ledger).outcome_file.read_text())["summary"]["job"], "gpu": 3},
    )
    (newest(ledger).run_folder / "state.json").unlink()  # so it is the summary that was read
    assert only_status(ledger) == before


def test_a_run_with_a_damaged_file_has_none(ledger: Ledger) -> None:
    state = newest(ledger).run_folder / "state.json"
    state.write_text("{")
    newest(ledger).write_outcome(Outcome("done"))
    assert "summary" not in json.loads(newest(ledger).outcome_file.read_text())
    assert only_status(ledger).damaged[0][0] == "state.json"
