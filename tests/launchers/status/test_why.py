"""Why a run waits or failed: one plain line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hyperformer.errors import clip
from launchers.plan.failure_kinds import KINDS
from launchers.plan.plan import Plan
from launchers.slurm.job_queue import SlurmJob
from launchers.status.run_facts import RunFacts
from launchers.status.state_rules import status_of
from launchers.status.why import why
from launchers.store.attempts import Outcome
from launchers.store.ledger import Ledger
from launchers.store.processes import this_process
from launchers.store.waiting_runs import QueueFile

FACTS = RunFacts("r", "abc", "/r", cluster="slurm", job_id="7_1", attempt=1, slurm_was_asked=True)
MEMORY = KINDS["out_of_memory"].words


def slurm(state: str, reason: str = "None", start: str = "") -> RunFacts:
    return replace(FACTS, slurm=SlurmJob(state, reason, start=start))


def ended(status: str, message: str, **more: object) -> RunFacts:
    return replace(FACTS, outcome=Outcome(status, message, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (slurm("PENDING"), "SLURM has not looked at it yet"),
        (
            slurm("PENDING", "Resources", "2030-01-01T10:00:00"),
            "Resources: waits for free nodes, GPUs or memory; expected to start at 2030-01-01 10:00:00",
        ),
        (slurm("PENDING", "job requeued in held state"), "scontrol release 7_1"),
        (slurm("TIMEOUT"), "SLURM says TIMEOUT; its time limit was reached: raise `time:`"),
        (slurm("OUT_OF_MEMORY"), "SLURM says OUT_OF_MEMORY; it used more memory than it asked for: raise mem_gb"),
        # What SLURM's daemons say of it ("Step 7.0 exceeded ...") is no plain word.
        (
            ended("failed", "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.", error_type="out_of_memory",
                  kind="out_of_memory", then="end", why=f"{MEMORY}; `retries: out_of_memory` is 0"),
            f"out_of_memory: {MEMORY}; `retries: out_of_memory` is 0; raise `mem_gb`, then `retry --oom`",
        ),
        (
            ended("failed", "'x'", error_type="KeyError", kind="user_code", then="end", why="your own code"),
            "KeyError: 'x'; your own code",
        ),
        (
            ended("stopped", "m", kind="cancelled", then="end", why="held: 3 runs failed alike"),
            "it stopped: held: 3 runs failed alike; submit resumes it from its last checkpoint",
        ),
        (replace(FACTS, outcome=Outcome("failed"), damaged=(("x", "no"),)), "x is damaged (no)"),
        (replace(FACTS, unreadable="a newer version"), "a newer version"),
        (FACTS, "SLURM does not know job 7_1"),
    ],
    ids=str,
)  # fmt: skip
def test_why(plan_of: Callable[[str], Plan], tmp_path: Path, facts: RunFacts, words: str) -> None:
    ledger = Ledger(plan_of("{variants: [hyperformer], tasks: [rte, cola]}"), tmp_path)
    line = why(status_of(facts), ledger)
    assert line is not None and words in line and line.count(MEMORY) <= 1


def test_why_it_waits_on_a_machine(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    ledger = Ledger(plan_of("{variants: [hyperformer], tasks: [rte, cola]}"), tmp_path)
    ledger.path.mkdir()
    me = this_process()
    with QueueFile(ledger.paths).show({"abc": 1}):
        line = why(status_of(RunFacts("r", "abc", "/r", is_waiting=True)), ledger)
    assert line == f"waits for a place: it is in the queue of process {me['pid']} on {me['host']}"


def test_why_nobody_can_tell(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    ledger = Ledger(plan_of("{variants: [hyperformer], tasks: [rte, cola]}"), tmp_path)
    assert why(status_of(replace(FACTS, slurm_was_asked=False)), ledger) == "SLURM does not answer"
    line = why(status_of(replace(FACTS, job_id=None)), ledger)
    assert line is not None and "SLURM has not told its job id" in line


@pytest.mark.parametrize(
    "facts", [slurm("RUNNING"), replace(FACTS, is_done=True), replace(FACTS, is_cancelled=True)]
)
def test_nothing_to_tell(plan_of: Callable[[str], Plan], tmp_path: Path, facts: RunFacts) -> None:
    assert why(status_of(facts), Ledger(plan_of("{variants: [hyperformer]}"), tmp_path)) is None


def test_a_line_is_cut_between_two_words(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    ledger = Ledger(plan_of("{variants: [hyperformer]}"), tmp_path)
    words = [f"word{number}" for number in range(200)]
    line = why(status_of(ended("failed", " \n ".join(words), error_type="E")), ledger)
    assert line is not None and len(line) <= 600 and set(line.split()) <= {"E:", "…", *words}
    for most in range(10, 60):
        text = clip("a reason of several words\nand lines, some-long-word-in-it", most)
        assert len(text) <= most and "\n" not in text
    assert clip("x" * 50, 10) == "xxxxxxxx …" and clip("short", 10) == "short"
