"""Kinds of failure, and what follows from each."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyperformer.errors import HANG_EXIT, TAKEN_OVER_EXIT
from hyperformer.run_files import run_lock
from hyperformer.run_files.recovery import read_recovery
from hyperformer.run_files.run_folder import RunFolder, RunState
from hyperformer.settings.build import make_config
from launchers.job import epilogue, finish, start_checks
from launchers.job.classify_failure import Evidence, classify
from launchers.job.finish import EndedAttempt
from launchers.plan.failure_kinds import KINDS, Failure
from launchers.plan.retry_policy import RetryPolicy, next_step
from launchers.slurm import this_job
from launchers.store import attempts, circuit_breaker
from launchers.store.attempts import Attempt, Outcome
from launchers.store.submissions import QueuedRun, Submission, write
from launchers.store.sweep_folder import SweepFolder

AT = "2026-11-23T16:22:08"
SAID = "slurmstepd-node1: error: *** {} ON node1 CANCELLED AT " + AT + "{} ***\n"
NODE = " DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"
PREEMPTED = SAID.format("JOB 1", " DUE TO PREEMPTION")
OURS = '  File "/code/hyperformer/data/task.py", line 3, in rows'
THEIRS = '  File "/home/me/tasks/mine.py", line 3, in rows'
LIBRARY = '  File "/venv/lib/python3.11/site-packages/torch/x.py", line 9, in f'


def failed(name: str, message: str, *tail: str, **more: Any) -> Evidence:
    return Evidence(Outcome("failed", message, error_type=name, traceback_tail=tail, **more))


def stopped(number: int, job_log: str = "") -> Evidence:
    return Evidence(Outcome("stopped", signal=number), job_log=job_log)


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (failed("OutOfMemoryError", "CUDA out of memory. Tried to allocate 1 GiB"), "out_of_gpu_memory"),
        (failed("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "out_of_gpu_memory"),
        (failed("MemoryError", ""), "out_of_memory"),
        (failed("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (failed("RuntimeError", "[pair.cc:553] Connection closed by peer; gloo"), "collective"),
        (failed("DistBackendError", "NCCL error in: ProcessGroupNCCL.cpp"), "collective"),
        (failed("DistNetworkError", "The server socket has failed to listen: EADDRINUSE"), "collective"),
        (failed("Hang", "rank 1 waited in vain for another rank"), "hang"),
        (replace(failed("RuntimeError", "gloo: Connection closed"), run_error="Hang: nothing moved"), "hang"),
        (failed("Diverged", "the loss is nan"), "diverged"),
        (failed("DiskFull", "no room"), "disk_full"),
        (failed("OSError", "[Errno 122] Disk quota exceeded", errno=122), "disk_full"),
        (failed("DataError", "rte: not reached", causes=("ConnectionError",)), "data_source"),
        (failed("DataError", "row 7 has no label"), "data"),
        (failed("ConfigError", "unknown setting"), "configuration"),
        (failed("KeyError", "'x'", LIBRARY, OURS), "bug"),
        (failed("KeyError", "'x'", OURS, THEIRS, LIBRARY), "user_code"),
        (stopped(signal.SIGUSR2), "time_limit"),
        (stopped(signal.SIGTERM), "preempted"),
        (stopped(signal.SIGTERM, SAID.format("STEP 1.0", "")), "preempted"),  # a grace time begins
        (stopped(signal.SIGTERM, PREEMPTED), "preempted"),
        (stopped(signal.SIGTERM, SAID.format("JOB 1", " DUE TO TIME LIMIT")), "time_limit"),
        (stopped(signal.SIGTERM, SAID.format("JOB 1", "")), "cancelled"),
        (Evidence(exit_code=HANG_EXIT), "hang"),
        (Evidence(exit_code=1, log="Timeout (0:30:00)!\nThread 0x1"), "hang"),
        (Evidence(exit_code=137, job_log="error: Detected 1 oom_kill event"), "out_of_memory"),
        (Evidence(exit_code=137, job_log="Step 7.0 exceeded memory limit (9 > 1)"), "out_of_memory"),
        (Evidence(exit_code=137), "killed"),
        (Evidence(exit_code=-11), "killed"),
        (Evidence(exit_code=1, log="x", job_log="No module named 'torch'", has_started=False), "set_up"),
        (Evidence(run_error="DiskFull: no room"), "disk_full"),
        (Evidence(exit_code=134, log="Watchdog caught collective operation timeout: WorkNCCL(SeqNum=3)"), "hang"),
        (Evidence(exit_code=134, log="[rank1]: ProcessGroupNCCL: ncclRemoteError"), "collective"),
        (failed("RuntimeError", "CUDA error: out of memory"), "out_of_gpu_memory"),
        (failed("DistBackendError", "Cuda failure 2 'out of memory'"), "out_of_gpu_memory"),
        (failed("RuntimeError", "CUDA error: uncorrectable ECC error encountered"), "gpu_failure"),
        (failed("HyperformerError", "no CUDA-capable device works on node7, though"), "gpu_failure"),
        (failed("CheckpointError", "t5-base: not here", causes=("LocalEntryNotFoundError",)), "data_source"),
        (failed("DataError", "rte", causes=("ConnectError",)), "data_source"),
        (failed("CheckpointError", "could not be written", errno=116), "data_source"),  # ESTALE
        (stopped(signal.SIGTERM, SAID.format("JOB 1", NODE)), "node_failure"),
        (stopped(signal.SIGTERM, SAID.format("JOB 1", " DUE TO A WORD OF ANOTHER VERSION")), "requeued"),
        # A rank that is killed leaves the complaint to another.
        (Evidence(failed("RuntimeError", "gloo: Connection closed by peer").outcome, exit_code=137), "killed"),
        (Evidence(failed("RuntimeError", "gloo: closed").outcome, job_log="oom-kill event"), "out_of_memory"),
        # What fails in a job that SLURM is ending is no failure of its own.
        (replace(failed("RuntimeError", "gloo"), job_log=PREEMPTED), "preempted"),
        # SLURM ended the job before the run began, and its log does not say so.
        (Evidence(exit_code=1, has_started=False, ending="requeued"), "requeued"),
        (Evidence(exit_code=-15, has_started=False), "preempted"),
        (Evidence(exit_code=128 + signal.SIGTERM, has_started=False), "preempted"),
        (Evidence(exit_code=1, job_log=PREEMPTED, has_started=False, ending="requeued"), "preempted"),
    ],
)  # fmt: skip
def test_kind(evidence: Evidence, kind: str) -> None:
    failure = classify(evidence)
    assert failure is not None and failure.kind == kind


@pytest.mark.parametrize(
    ("record", "restarts", "kind"),
    [
        ("JobId=7 JobState=RUNNING Reason=None Restarts=0", "", None),
        ("JobId=7 JobState=COMPLETING Reason=None Restarts=1", "", "requeued"),
        ("JobId=7 JobState=RUNNING Reason=None Restarts=1", "1", None),
        ("JobId=7 JobState=REQUEUE_HOLD Restarts=1", "1", "requeued"),
        ("JobId=7 JobState=CANCELLED Restarts=0", "", "cancelled"),
        ("JobId=7 JobState=TIMEOUT Restarts=0", "", "time_limit"),
        ("JobId=7 JobState=A_STATE_TO_COME Restarts=0", "", None),
        ("slurm_load_jobs error: Unable to contact slurm controller", "", None),
    ],
)
def test_what_slurm_is_doing_with_the_job(
    record: str, restarts: str, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERFORMER_JOB_STATE", record)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    if restarts:
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    assert this_job.ending() == kind


def test_memory_is_told_in_the_words_of_the_settings() -> None:
    used = "slurmstepd: error: Step 7.0 exceeded memory limit (4299161600 > 536870912), being killed"
    killed = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed."
    lost = failed("RuntimeError", "gloo: closed").outcome
    for log, words in (
        (used, "it used 4 GB of memory and asked for 0.5"),
        (killed, "the kernel killed one of its"),
    ):
        for evidence in (Evidence(exit_code=137, job_log=log), Evidence(lost, job_log=log)):
            failure = classify(evidence)
            assert (
                failure is not None and failure.kind == "out_of_memory" and failure.message.startswith(words)
            )


def test_lines_of_an_earlier_start_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "job.err"
    log.write_text(PREEMPTED)
    attempt = Attempt(tmp_path / "s" / "r" / "attempts" / "1")
    attempt.folder.mkdir(parents=True)
    kinds = []
    for begin in (0, log.stat().st_size):
        monkeypatch.setenv("HYPERFORMER_LOG_FROM", str(begin))
        attempt.outcome_file.unlink(missing_ok=True)
        finish.finish_attempt(EndedAttempt(attempt, 1, 1, log), RetryPolicy())
        kinds.append(json.loads(attempt.outcome_file.read_text())["kind"])
    assert kinds == ["preempted", "set_up"]
    assert classify(Evidence(Outcome("done"), job_log=PREEMPTED)) is None


def test_a_start_that_ends_at_once_is_an_attempt_of_its_own(tmp_path: Path) -> None:
    """SLURM ended the job before its first file, and settle wrote the only word on it."""
    folder = tmp_path / "s" / "r"
    first = attempts.next_attempt(folder, 1)
    first.folder.mkdir(parents=True)
    first.write_outcome(Outcome("stopped", kind="preempted", then="requeue"))
    assert attempts.next_attempt(folder, 1).number == 2
    assert attempts.next_attempt(folder, 5).number == 5


def test_budget_of_node_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_checks.site, "is_down", lambda node: True)
    policy = RetryPolicy.from_json({"retries": {"node_failure": 1}})
    folder = tmp_path / "s" / "r"
    answers = []
    for _ in range(3):
        answers.append(start_checks.close_unfinished_attempts(folder, 1, policy))
        attempt = attempts.next_attempt(folder, 1)
        attempt.folder.mkdir(parents=True)
        attempt.started_file.write_text('{"host": "node7", "started": 1.0}')
    assert (
        answers[:2] == [None, None]
        and "its node failed; it was started again for this 1 time" in answers[2].message
    )


def test_a_run_that_another_process_trains_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's attempt is not touched, nothing counts for stop_after, and nothing starts again."""
    folder = tmp_path / "s" / "r"
    assert start_checks.wait_for_trainer(folder) is None  # it never began
    other = Attempt.of(folder, 1)
    other.folder.mkdir(parents=True)
    other.started_file.write_text('{"host": "node7", "started": 1.0}')
    assert start_checks.wait_for_trainer(folder) is None
    with run_lock.hold(folder):
        refused = start_checks.wait_for_trainer(folder)
    assert refused is not None and f"trained by process {os.getpid()}" in refused.message
    assert not other.outcome_file.exists()
    mine = attempts.next_attempt(folder, 1)
    mine.write_outcome(refused)
    step = finish.finish_attempt(EndedAttempt(mine, 1, 1), RetryPolicy(stop_after=1))
    assert step.action == "end" and circuit_breaker.reason(SweepFolder(tmp_path / "s")) is None


@pytest.mark.parametrize(
    "evidence", [failed("RunInUse", "is being trained"), Evidence(exit_code=TAKEN_OVER_EXIT, log="x")]
)
def test_a_refusal_to_train_twice_counts_for_nothing(tmp_path: Path, evidence: Evidence) -> None:
    failure = classify(evidence)
    assert failure is not None and failure.kind == "in_use"
    assert (
        next_step(failure, [], True, RetryPolicy()).action == "end"
        and not KINDS["in_use"].counts_for_stop_after
    )


def test_no_word_of_ours_starts_a_job_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may end with any exit code; 75 and 76 mean something to the batch script."""
    entry = QueuedRun("abc", "n", "n-abc", 1, {})
    record = write(SweepFolder(tmp_path), Submission(1, "j", "slurm", 1.0, "/code", [[entry]], job_id="7"))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    attempt = Attempt.of(tmp_path / "n-abc", 1)
    attempt.folder.mkdir(parents=True)
    attempt.started_file.write_text('{"job_id": "7", "restarts": 0, "started": 1.0}')
    attempt.write_outcome(Outcome("failed", error_type="ConfigError", message="no"))
    assert [epilogue.after(record, code, record) for code in (75, 76, 3)] == [1, 1, 3]
    attempt.started_file.write_text('{"job_id": "8", "restarts": 0, "started": 1.0}')
    attempt.write_outcome(Outcome("failed", error_type="RuntimeError", message="gloo"))
    before = attempt.outcome_file.read_text()
    assert epilogue.after(record, 3, record) == 3 and attempt.outcome_file.read_text() == before  # another's
    # Handed on to us, and we did not begin.
    attempt.write_outcome(Outcome("stopped", kind="preempted", then="requeue"))
    assert epilogue.after(record, 3, record) == 3
    own = json.loads((attempt.folder.parent / "2" / "outcome.json").read_text())
    assert (own["kind"], own["then"]) == ("set_up", "end")


def test_same_traceback_same_mark() -> None:
    def mark(message: str, *tail: str) -> str:
        failure = classify(failed("KeyError", message, *tail))
        assert failure is not None
        return failure.fingerprint

    assert mark("'a'", OURS) == mark("'b'", OURS.replace("line 3", "line 4"))
    assert mark("'a'", OURS) != mark("'a'", THEIRS)
    assert mark("run 7 in /x/y") == mark("run 8 in /z")


@pytest.mark.parametrize(
    ("kind", "before", "progressed", "action"),
    [
        ("preempted", ["preempted"] * 99, False, "requeue"),
        ("time_limit", ["time_limit"] * 99, True, "requeue"),
        ("time_limit", [], False, "end"),
        ("collective", ["preempted", "collective"], True, "again"),
        ("collective", ["collective", "collective"], True, "end"),
        ("diverged", ["diverged"], True, "end"),
        ("out_of_memory", [], True, "end"),
        ("configuration", [], True, "end"),
        ("bug", [], True, "end"),
        ("cancelled", [], True, "end"),
    ],
)  # fmt: skip
def test_decision(kind: Any, before: Any, progressed: bool, action: str) -> None:
    assert next_step(Failure(kind, ""), before, progressed, RetryPolicy()).action == action


def test_budgets_are_set_in_the_profile(tmp_path: Path) -> None:
    from launchers.plan.cluster_profile import load_profile

    path = tmp_path / "c.yaml"
    path.write_text("retries: {collective: 0, hang: unlimited}\nstop_after: 7")
    policy = RetryPolicy.from_json(json.loads(json.dumps(load_profile(str(path)).retry_policy.as_json())))
    assert next_step(Failure("collective", ""), [], True, policy).action == "end"
    assert next_step(Failure("hang", ""), ["hang"] * 50, True, policy).action == "again"
    assert policy.stop_after == 7 and policy.retries["diverged"] == 1


def test_too_little_memory_changes_what_was_too_much(tmp_path: Path) -> None:
    """The run itself may have written the remedy already; what it tried is in its state."""
    attempt, run = Attempt(tmp_path / "s" / "r" / "attempts" / "1"), RunFolder(tmp_path / "s" / "r")
    run.claim(make_config({"tasks": ["rte"], "output_dir": str(run.path), "per_device_train_batch_size": 8}))
    attempt.folder.mkdir(parents=True)
    lines = []
    for error, parts, rows in (
        ("OutOfMemory", 1, None), ("OutOfMemory", 1, None), ("OutOfMemoryError", 2, None),
        ("EvaluationOutOfMemory", 4, None), ("EvaluationOutOfMemory", 4, 16),
    ):  # fmt: skip
        run.write_state(RunState("failed", micro_batch_parts=parts, eval_rows=rows))
        attempt.write_outcome(Outcome("failed", error_type=error, message="CUDA out of memory. Tried to"))
        step = finish.finish_attempt(EndedAttempt(attempt, 1, 1), RetryPolicy())
        assert step.action == "again"
        lines.append(step.why.partition(" instead")[0])
    assert lines == [
        "micro-batch split: 4 rows", "micro-batch split: 4 rows", "micro-batch split: 2 rows",
        "evaluation split: 16 rows per forward", "evaluation split: 8 rows per forward",
    ]  # fmt: skip
    recovery = read_recovery(run)
    assert (recovery.micro_batch_parts, recovery.eval_rows) == (4, 8)


def test_full_disk_waits_and_then_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Attempt(tmp_path / "s" / "r" / "attempts" / "1")
    attempt.folder.mkdir(parents=True)
    attempt.write_outcome(Outcome("failed", error_type="DiskFull", message="no room"))
    clock = iter(range(0, 10_000, 300))
    monkeypatch.setattr(finish.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(finish, "_has_room", lambda folder: False)
    slept: list[float] = []
    folder = tmp_path / "s" / "r"
    decision = finish.finish_attempt(EndedAttempt(attempt), RetryPolicy(), slept.append)
    assert decision.action == "end" and len(slept) == 2 and not list(folder.glob(".room*"))
    monkeypatch.undo()
    attempt.write_outcome(Outcome("failed", error_type="DiskFull", message="no room"))
    assert finish.finish_attempt(EndedAttempt(attempt), RetryPolicy(), slept.append).action == "again"


def test_disk_too_full_for_the_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells the kind but the disk itself, and nothing can be written down; the run starts again."""
    attempt = Attempt(tmp_path / "s" / "r" / "attempts" / "1")
    attempt.folder.mkdir(parents=True)
    room = iter([False, False, True])
    monkeypatch.setattr(finish, "_has_room", lambda folder: next(room))
    monkeypatch.setattr(
        Attempt, "write_outcome", lambda *a, **b: (_ for _ in ()).throw(OSError(28, "No space"))
    )
    slept: list[float] = []
    decision = finish.finish_attempt(EndedAttempt(attempt, 1, 1), RetryPolicy(), slept.append)
    assert decision.action == "again" and len(slept) == 1


def test_sweep_is_held_after_so_many_alike(tmp_path: Path) -> None:
    folders = [tmp_path / f"r{number}" for number in range(4)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        circuit_breaker.count_failure(
            folder, Failure("bug", "KeyError: 'x'", "mark" if number else "other"), RetryPolicy()
        )
        circuit_breaker.count_failure(
            folder, Failure("bug", "KeyError: 'x'", "mark" if number else "other"), RetryPolicy()
        )
        assert (circuit_breaker.reason(SweepFolder(tmp_path)) is not None) == (number == 3)
    assert circuit_breaker.reason(SweepFolder(tmp_path)) == "3 runs failed alike: KeyError: 'x'"
    circuit_breaker.release(SweepFolder(tmp_path), folders[1:3])
    assert circuit_breaker.reason(SweepFolder(tmp_path)) is None
    assert sorted(path.name for path in (tmp_path / "failures").rglob("r*")) == ["r0", "r3"]


def test_failures_of_long_ago_or_without_a_cause_hold_nothing(tmp_path: Path) -> None:
    sweep, policy = SweepFolder(tmp_path), RetryPolicy(stop_after=2)
    for number, fingerprint in enumerate(("", "", "", "a", "a")):
        (tmp_path / f"r{number}").mkdir()
        circuit_breaker.count_failure(tmp_path / f"r{number}", Failure("set_up", "x", fingerprint), policy)
        for path in sweep.failures.rglob("r*"):
            os.utime(path, (1.0, 1.0))
    assert circuit_breaker.reason(sweep) is None
    failure = classify(Evidence(exit_code=1, has_started=False))
    assert failure is not None and (failure.kind, failure.fingerprint) == ("set_up", "")
