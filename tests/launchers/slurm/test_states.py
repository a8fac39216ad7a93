"""The tables of SLURM's states and reasons."""

from __future__ import annotations

import re

import pytest

from launchers.slurm import states

# Every name of SLURM's documentation, 20.11 to 25.11, with what a run of such a job is.
PHASES = {
    "pending": "PENDING CONFIGURING POWER_UP_NODE REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD "
    "EXPEDITING",
    "running": "RUNNING SUSPENDED COMPLETING RESIZING SIGNALING STAGE_OUT STOPPED",
    "completed": "COMPLETED",
    "cancelled": "CANCELLED",
    "failed": "FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY",
    "unknown": "REVOKED LAUNCH_FAILED RECONFIG_FAIL UPDATE_DB",
}


def test_every_state_has_its_meaning() -> None:
    assert {state: phase for phase, names in PHASES.items() for state in names.split()} == {
        name: state.phase for name, state in states.STATES.items()
    }
    told = {name for name in states.STATES if states.end_words(name)}
    assert told == {*PHASES["failed"].split(), "CANCELLED"} - {"FAILED"}
    assert "does not see the sweep's folder" in states.end_words("FAILED", "JobLaunchFailure")


@pytest.mark.parametrize(
    ("text", "name", "phase"),
    [
        ("PD", "PENDING", "pending"), ("CA", "CANCELLED", "cancelled"), ("OOM", "OUT_OF_MEMORY", "failed"),
        ("CANCELLED by 1000", "CANCELLED", "cancelled"), ("CANCELLED+", "CANCELLED", "cancelled"),
        ("running", "RUNNING", "running"), ("RUNNING+COMPLETING", "COMPLETING", "running"),
        ("FAILED+REQUEUED", "REQUEUED", "pending"), ("PENDING,EXPEDITING", "EXPEDITING", "pending"),
        ("RUNNING+UPDATE_DB", "RUNNING", "running"), ("COMPLETED+COMPLETING", "COMPLETING", "running"),
        ("A_STATE_TO_COME", "A_STATE_TO_COME", "unknown"), ("FAILED+NEW", "FAILED+NEW", "unknown"),
        ("CANCELLED+REVOKED", "CANCELLED+REVOKED", "unknown"), ("", "", "unknown"),
    ],
)  # fmt: skip
def test_every_spelling(text: str, name: str, phase: str) -> None:
    assert (states.read_state(text), states.phase(text)) == (name, phase)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("job requeued in held state", "holds it, as after a failed prolog; .*`scontrol release 7_1`"),
        ("job_requeued_in_held_state", "`scontrol release 7_1`"),
        ("launch failed requeued held", "a node could not start it.*`scontrol release 7_1`"),
        ("ReqNodeNotAvail, UnavailableNodes:node7", "down, drained or reserved"),
        ("AssocMaxWallDurationPerJobLimit", "never start"),
        ("AssocMaxJobsLimit", "as many jobs as it may"),
        ("MaxCpuPerAccount", "more than the QOS gives an account"),
        ("A reason to come", "scontrol show job 7_1"),
        ("JobLaunchFailure", "does not see the sweep's folder"),
    ],
)
def test_reasons_are_told_with_the_remedy(reason: str, words: str) -> None:
    assert re.search(words, states.explain_reason(reason, "7_1")), states.explain_reason(reason, "7_1")
