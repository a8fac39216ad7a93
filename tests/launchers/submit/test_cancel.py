"""What cannot be cancelled does not take effect, and is told; all else is cancelled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hyperformer.files import write_json
from launchers.plan.plan import Plan, Run
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.slurm.job_queue import SlurmJob
from launchers.status.read_status import read_statuses
from launchers.store.ledger import Ledger
from launchers.store.processes import describe, this_process
from launchers.store.submissions import QueuedRun, Submission
from launchers.store.sweep_folder import cancelled_note
from launchers.submit.cancel import cancel, to_cancel

THREE = "{variants: [hyperformer], tasks: [rte, cola], grid: {seed: [1, 2, 3]}}"


@pytest.fixture
def ledger(plan_of: Callable[[str], Plan], tmp_path: Path) -> Ledger:
    return Ledger(plan_of(THREE), tmp_path / "runs")


def cancel_all(ledger: Ledger) -> str:
    """Cancel every run; what was refused."""
    runs = ledger.plan.runs
    try:
        cancel(ledger, to_cancel(runs, read_statuses(ledger, runs)[0]))
    except ClusterError as error:
        return str(error)
    return ""


def marked(ledger: Ledger) -> list[bool]:
    return [cancelled_note(ledger.folder(run)).exists() for run in ledger.plan.runs]


def test_slurm_decides_first(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [[QueuedRun(run.signature, run.name, ledger.folder(run).name, 1, {})] for run in ledger.plan.runs]
    ledger.record_submission(Submission(1, ledger.job_name(1), "slurm", 1.0, "/code", tasks, job_id="7"))
    monkeypatch.setattr(job_queue, "query", lambda ids: dict.fromkeys(ids, SlurmJob("PENDING")))

    def refuse(ids: list[str]) -> dict[str, str]:
        assert sorted(ids) == ["7_0", "7_1", "7_2"] and not any(marked(ledger))
        return {"7_1": "SLURM refuses: Access/permission denied"}

    monkeypatch.setattr(job_queue, "cancel", refuse)
    refused = cancel_all(ledger)
    assert "1 of 3 runs were not cancelled:\n- hyperformer-seed2: SLURM refuses: Access" in refused
    assert marked(ledger) == [True, False, True]

    def away(ids: list[str]) -> dict[str, str]:
        raise ClusterError("SLURM does not answer")

    for run in ledger.plan.runs:
        cancelled_note(ledger.folder(run)).unlink(missing_ok=True)
    monkeypatch.setattr(job_queue, "cancel", away)
    assert cancel_all(ledger) == "SLURM does not answer" and not any(marked(ledger))


def test_a_folder_that_is_another_users(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in ledger.plan.runs:
        job = {"cluster": "local", "job_id": "1", **this_process()}
        write_json(ledger.new_attempt(run).job_file, job)
    signalled = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid))
    mark = ledger.mark_cancelled

    def refuse(run: Run) -> None:
        if run is ledger.plan.runs[0]:
            raise PermissionError(13, "Permission denied", "cancelled.json")
        mark(run)

    monkeypatch.setattr(ledger, "mark_cancelled", refuse)
    assert "hyperformer-seed1: cancelled.json: Permission denied; ask its owner" in cancel_all(ledger)
    assert marked(ledger) == [False, True, True] and signalled == [os.getpid()] * 2


def test_a_process_that_is_another_users(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ledger.plan.runs[0]
    job = {"cluster": "local", "job_id": "1", **this_process()}
    write_json(ledger.new_attempt(run).job_file, job)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert f"process {os.getpid()} is another user's" in cancel_all(ledger)
    assert not any(marked(ledger))


def test_a_run_of_another_machine(ledger: Ledger) -> None:
    first, second, _ = ledger.plan.runs
    elsewhere = {"cluster": "local", "job_id": "1", "host": "elsewhere", "pid": 1}
    write_json(ledger.new_attempt(first).job_file, elsewhere)
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_json(ledger.new_attempt(second).job_file, {"cluster": "local", **describe(sleeper.pid)})
    assert "hyperformer-seed1: it runs on elsewhere: cancel it there" in cancel_all(ledger)
    assert marked(ledger) == [False, True, False]
    sleeper.communicate()
    assert sleeper.returncode == -signal.SIGTERM


def test_a_trainer_that_no_launcher_started(ledger: Ledger) -> None:
    folder = ledger.folder(ledger.plan.runs[0])
    folder.mkdir(parents=True)
    code = f"from hyperformer.run_files.run_lock import hold\nwith hold({str(folder)!r}): print(flush=True); input()"
    trainer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert trainer.stdout is not None and trainer.stdout.readline() == "\n"
    assert cancel_all(ledger) == "" and marked(ledger) == [True, False, False]
    trainer.communicate()
    assert trainer.returncode == -signal.SIGTERM
