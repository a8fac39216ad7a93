"""From the facts on a run to its state: one pure function, so its test is a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launchers.slurm.job_queue import SlurmJob
from launchers.status.run_facts import RunFacts
from launchers.status.run_status import STATES, RunStatus
from launchers.status.state_rules import _RULES, SILENT_S, status_of
from launchers.store.attempts import Outcome

NEVER = RunFacts("r", "abc", "/runs/s/r-abc", now=1000.0)
LOCAL = replace(NEVER, cluster="local", job_id="5", attempt=1, started=900.0, host="here")
SLURM = replace(
    NEVER, cluster="slurm", job_id="7_1", attempt=2, started=900.0, host="n1", slurm_was_asked=True
)
FAILED = Outcome("failed", "m", error_type="E", kind="bug", then="end", why="an error", ended=950.0)
STOPPED = Outcome("stopped", "m", kind="time_limit", then="requeue", why="its time was up", ended=950.0)
PAUSED = Outcome("paused", "m", kind="paused", then="end", why="a race paused it", step=200, ended=950.0)
DAMAGED = {"damaged": (("outcome.json", "it is empty"), ("state.json", "it is empty"))}


def slurm(state: str, reason: str = "None", **more: Any) -> RunFacts:
    return replace(SLURM, slurm=SlurmJob(state, reason, "n2", elapsed=3.0), **more)


TABLE: list[tuple[RunFacts, str, str]] = [
    # Without an attempt.
    (NEVER, "missing", ""),
    (replace(NEVER, is_cancelled=True), "cancelled", ""),
    (replace(NEVER, is_waiting=True), "waiting", ""),
    (replace(NEVER, is_waiting=True, is_cancelled=True), "cancelled", ""),
    (replace(NEVER, trainer="process 9 on x"), "running", "trained by process 9 on x"),
    (replace(NEVER, unreadable="no"), "unknown", "no"),
    (replace(NEVER, is_done=True), "done", ""),
    # On one machine.
    (replace(LOCAL, process="alive"), "running", ""),
    (replace(LOCAL, process="alive", is_cancelled=True), "running", ""),  # it saves
    (replace(LOCAL, process="alive", **DAMAGED), "running", ""),
    (replace(LOCAL, process="elsewhere", host="x"), "running", "says x; ask there"),
    (replace(LOCAL, process="gone"), "lost", "its process is gone"),
    (replace(LOCAL, process="gone", last_line="Killed"), "lost", "its process is gone; last line of its log: Killed"),
    (replace(LOCAL, process="gone", is_cancelled=True), "cancelled", ""),
    (replace(LOCAL, process="gone", trainer="process 9 on x"), "running", "trained by process 9 on x"),
    (replace(LOCAL, process="gone", is_waiting=True), "waiting", ""),
    (replace(LOCAL, process="gone", is_done=True), "done", ""),
    (replace(LOCAL, outcome=FAILED), "failed", "E: m"),
    (replace(LOCAL, outcome=FAILED, is_waiting=True), "waiting", ""),  # it is to start again
    (replace(LOCAL, outcome=FAILED, trainer="process 9 on x"), "running", "trained by process 9 on x"),
    (replace(LOCAL, outcome=FAILED, is_cancelled=True), "cancelled", ""),
    (replace(LOCAL, outcome=FAILED, is_done=True), "done", ""),
    (replace(LOCAL, outcome=STOPPED), "stopped", "m"),
    (replace(LOCAL, outcome=PAUSED, pause_at=200), "paused", "by its race at step 200"),
    (replace(LOCAL, outcome=PAUSED, pause_at=400), "stopped", "paused at step 200, and now to train to step 400"),
    (replace(LOCAL, outcome=PAUSED), "stopped", "paused at step 200, and now to train to its end"),
    (replace(LOCAL, outcome=PAUSED, pause_at=200, is_cancelled=True), "cancelled", ""),
    (replace(LOCAL, outcome=Outcome("done")), "lost", "it says that it is done, but result.json is not there"),
    (replace(LOCAL, process="gone", **DAMAGED), "damaged", "outcome.json is damaged (it is empty); submit renames it "
     "and resumes from the last checkpoint"),
    (replace(LOCAL, outcome=FAILED, damaged=(("state.json", "x"),)), "failed", "E: m"),
    (replace(LOCAL, outcome=FAILED, unreadable="a newer version"), "unknown", "a newer version"),
    # SLURM has not started it, or has put it back into the queue.
    (slurm("PENDING", "Resources"), "pending", "Resources"),
    (slurm("PENDING"), "pending", ""),
    (slurm("CONFIGURING"), "pending", ""),
    (slurm("PENDING", "BeginTime", outcome=FAILED), "pending", "BeginTime"),
    (slurm("PENDING", "Priority", is_cancelled=True), "pending", "Priority"),
    (slurm("PENDING", is_done=True), "done", ""),
    # SLURM runs it.
    (slurm("RUNNING"), "running", ""),
    (slurm("SUSPENDED"), "running", "SUSPENDED"),
    (slurm("RUNNING", is_cancelled=True), "running", ""),
    (slurm("RUNNING", silent_s=SILENT_S + 60, started=1.0), "lost",
     "no sign of life for 6 minutes, though SLURM says RUNNING: `cancel` it, then submit"),
    (slurm("RUNNING", silent_s=SILENT_S + 60), "running", ""),  # the heartbeat is an earlier attempt's
    (slurm("SUSPENDED", silent_s=SILENT_S + 60, started=1.0), "running", "SUSPENDED"),
    (slurm("RUNNING", outcome=STOPPED), "running", "starting again: its time was up"),
    (slurm("RUNNING", outcome=replace(FAILED, then=None)), "running", "its end is being examined: E: m"),
    (slurm("RUNNING", outcome=FAILED), "failed", "E: m"),
    (slurm("COMPLETING", outcome=FAILED), "failed", "E: m"),
    (slurm("RUNNING", outcome=STOPPED, is_cancelled=True), "cancelled", ""),
    # SLURM tells the end.
    (slurm("TIMEOUT"), "failed", "SLURM says TIMEOUT"),
    (slurm("NODE_FAIL"), "failed", "SLURM says NODE_FAIL"),
    (slurm("CANCELLED"), "cancelled", "scancel"),
    (slurm("FAILED", is_cancelled=True), "cancelled", ""),
    (slurm("COMPLETED"), "lost", "SLURM says COMPLETED, but result.json is not there"),
    (slurm("COMPLETED", has_folder=False), "lost",
     "SLURM says COMPLETED, but result.json is not there; its folder is not there any more"),
    (slurm("COMPLETED", is_done=True), "done", ""),
    (slurm("NODE_FAIL", trainer="process 9 on n1"), "running", "trained by process 9 on n1"),
    (slurm("NODE_FAIL", trainer="process 9 on n1", trainer_is_own=True), "running", "trained by process 9 on n1"),
    (slurm("TIMEOUT", trainer="process 9 on n1", trainer_is_own=True), "failed", "SLURM says TIMEOUT"),
    (slurm("TIMEOUT", trainer="process 9 on n3"), "running", "trained by process 9 on n3"),
    (slurm("FAILED", outcome=STOPPED), "stopped", "m"),
    (slurm("COMPLETED", outcome=PAUSED, pause_at=200), "paused", "by its race at step 200"),
    (slurm("COMPLETED", outcome=PAUSED, pause_at=400), "stopped", "paused at step 200, and now to train to step 400"),
    # SLURM does not tell.
    (slurm("A_STATE_TO_COME"), "unknown", "SLURM says A_STATE_TO_COME, which is no end that we know"),
    (slurm("UNKNOWN", "accounting still says RUNNING"), "unknown",
     "the queue does not have job 7_1, but accounting still says RUNNING"),
    (SLURM, "lost", "SLURM does not know job 7_1"),
    (replace(SLURM, has_folder=False), "lost", "SLURM does not know job 7_1; its folder is not there any more"),
    (replace(SLURM, outcome=STOPPED), "stopped", "m"),
    (replace(SLURM, slurm_was_asked=False), "unknown", "SLURM does not answer"),
    (replace(SLURM, slurm_was_asked=False, trainer="process 9 on n1"), "running", "trained by process 9 on n1"),
    (replace(SLURM, job_id=None, slurm_was_asked=False), "unknown", ""),
    (replace(SLURM, cluster=None), "unknown", ""),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "state", "detail"), TABLE, ids=range(len(TABLE)))
def test_state(facts: RunFacts, state: str, detail: str) -> None:
    status = status_of(facts)
    assert (status.state, status.detail) == (state, detail)


def test_the_table_is_complete() -> None:
    """Every state and every rule occurs: an unreachable rule would be noise."""
    assert {state for _, state, _ in TABLE} == set(STATES)
    decided_by = {next(rule for rule in _RULES if rule(facts)) for facts, _, _ in TABLE}
    assert decided_by == set(_RULES)


def test_the_public_keys_of_a_run() -> None:
    """`status --json` is read by users' scripts."""
    assert list(status_of(NEVER).as_json()) == [
        "name", "signature", "folder", "state", "detail", "attempt", "cluster", "job_id", "host", "step", "max_steps",
        "loss", "best_metric", "seconds_left", "elapsed", "slurm_state", "reason", "expected_start", "variant",
        "has_ended", "kind", "note", "settled", "goes_on", "damaged", "unreadable",
        "slurm_cluster",
    ]  # fmt: skip


def told(facts: RunFacts, **fields: Any) -> bool:
    status = status_of(facts)
    return {name: getattr(status, name) for name in fields} == fields


def test_what_else_is_told() -> None:
    progress = {"step": 3, "max_steps": 9, "loss": 0.5, "best_metric": 80.0, "seconds_left": 60.0}
    running = slurm("RUNNING", progress=progress)
    assert told(running, step=3, max_steps=9, loss=0.5, best_metric=80.0, seconds_left=60.0, elapsed=100.0)
    assert told(running, host="n1", slurm_state="RUNNING", job_id="7_1", attempt=2, has_ended=False)
    assert told(replace(running, host=None, started=None), host="n2", elapsed=3.0)
    waiting = replace(running, slurm=SlurmJob("PENDING", "Priority", start="2030-01-01T00:00:00"))
    assert told(
        waiting, elapsed=None, seconds_left=None, expected_start="2030-01-01T00:00:00", reason="Priority"
    )
    ended = slurm("COMPLETED", outcome=STOPPED, progress=progress)
    assert told(ended, elapsed=50.0, seconds_left=None, step=3, expected_start=None, has_ended=True)
    assert told(ended, kind="time_limit", note="its time was up", settled=True, goes_on=True)
    assert told(replace(ended, outcome=FAILED), settled=True, goes_on=False)
    assert told(replace(ended, outcome=replace(FAILED, then=None)), settled=False)
    done = replace(ended, is_done=True)
    assert told(done, has_ended=False, kind=None, note="", slurm_state=None, elapsed=50.0, best_metric=80.0)
    assert told(replace(LOCAL, process="alive", started=2000.0), elapsed=0.0)  # a clock that jumped


@pytest.mark.parametrize(
    "facts",
    [
        replace(LOCAL, process="gone"),
        replace(LOCAL, process="gone", is_cancelled=True),
        replace(LOCAL, process="gone", is_done=True),
        replace(LOCAL, process="gone", **DAMAGED),
        replace(SLURM, slurm_was_asked=False),
        slurm("TIMEOUT"),
        slurm("RUNNING", silent_s=SILENT_S + 60, started=1.0),
    ],
)
def test_time_stops_at_the_last_sign_of_life(facts: RunFacts) -> None:
    facts = replace(facts, started=100.0, last_sign=130.0)
    assert told(facts, elapsed=30.0) and told(replace(facts, now=9e9, silent_s=9e9), elapsed=30.0)
    by_slurm = facts.slurm.elapsed if facts.slurm else None
    assert told(replace(facts, last_sign=None), elapsed=by_slurm)
    assert told(replace(facts, last_sign=90.0), elapsed=0.0)  # an earlier attempt's


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (replace(LOCAL, process="alive"), "running"),
        (replace(LOCAL, outcome=FAILED), "failed"),
        (slurm("COMPLETED", is_done=True), "COMPLETED"),
        (slurm("CONFIGURING"), "CONFIGURING"),
        (slurm("TIMEOUT"), "TIMEOUT"),
        (slurm("COMPLETING", outcome=FAILED), "FAILED"),
        (slurm("CANCELLED"), "CANCELLED"),
        (SLURM, "lost"),
        (slurm("TIMEOUT", outcome=STOPPED), "stopped"),
        (replace(NEVER, is_waiting=True), "waiting"),
    ],
)
def test_the_state_for_people(facts: RunFacts, words: str) -> None:
    assert status_of(facts).display_state == words


def test_who_holds_a_job_and_who_is_waited_for() -> None:
    silent: RunStatus = status_of(slurm("RUNNING", silent_s=SILENT_S + 60, started=1.0))
    assert silent.holds_a_job and not silent.is_active
    assert not status_of(SLURM).holds_a_job
    assert status_of(replace(NEVER, is_waiting=True)).is_active
    assert not status_of(replace(SLURM, unreadable="a newer version")).is_active  # nobody will tell
