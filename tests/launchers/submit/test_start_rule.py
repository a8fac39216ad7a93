"""Which runs start: rules applied to statuses, and one text for every way to start the same runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hyperformer.errors import HyperformerError
from hyperformer.files import write_json
from launchers import sweep as command_line
from launchers.api import Sweep
from launchers.plan.plan import Plan
from launchers.status.run_status import STATES, RunStatus, State
from launchers.submit.start_rule import SUBMIT, RuleFacts, StartChoice, StartRule, choose, retry_rule

SWEEP = """
    base: {model_name_or_path: toy, data_source: toy}
    variants: [hyperformer++]
    tasks: [toy-sentiment]
    grid: {seed: [1, 2, 3]}
    """
# What is lost where a plan is opened without its profile.
PROFILE = (
    "resources: {partition: debug, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 4, time: 30, account: lab}\n"
)


def apply(plan: Plan, rule: StartRule, states: list[State], evidence: RuleFacts | None = None) -> StartChoice:
    statuses = [
        RunStatus(run.name, run.signature, "", state, cluster="slurm")
        for run, state in zip(plan.runs, states, strict=True)
    ]
    return choose(rule, plan, statuses, evidence or RuleFacts())


def started(choice: StartChoice) -> list[int]:
    return [run.config.seed for run in choice.start]


@pytest.mark.parametrize(
    ("rule", "states"),
    [
        (SUBMIT, {"missing", "failed", "stopped", "cancelled", "lost", "damaged"}),
        (retry_rule(), {"failed", "stopped", "cancelled", "lost", "damaged"}),
        (retry_rule(failed=True), {"failed", "lost", "damaged"}),
    ],
)
def test_states_in_which_a_rule_starts_runs(
    plan_of: Callable[[str], Plan], rule: StartRule, states: set[State]
) -> None:
    plan = plan_of(SWEEP)
    for state in STATES:
        assert started(apply(plan, rule, [state, "done", "running"])) == ([1] if state in states else [])


def test_names_and_evidence(plan_of: Callable[[str], Plan]) -> None:
    plan = plan_of(SWEEP)
    first, second, third = (run.signature for run in plan.runs)
    failed: list[State] = ["failed", "failed", "failed"]
    assert started(apply(plan, retry_rule(["seed=2", "*"]), failed)) == [2]
    with pytest.raises(HyperformerError, match="no run is named 'x'"):
        apply(plan, retry_rule(["x"]), failed)
    memory = RuleFacts(out_of_memory=frozenset({second, third}), unfixed=frozenset({third}))
    choice = apply(plan, retry_rule(out_of_memory=True), failed, memory)
    assert started(choice) == [2] and [status.signature for status in choice.unfixed] == [third]
    # `submit` starts also what would fail in the same way again.
    assert started(apply(plan, SUBMIT, failed, memory)) == [1, 2, 3]
    assert first not in memory.out_of_memory


def test_a_run_whose_job_still_runs_is_left(plan_of: Callable[[str], Plan]) -> None:
    plan = plan_of(SWEEP)
    lost = [
        RunStatus(run.name, run.signature, "", "lost", cluster="slurm", slurm_state="RUNNING")
        for run in plan.runs
    ]
    assert not choose(SUBMIT, plan, lost, RuleFacts()).start
    assert not choose(retry_rule(), plan, lost, RuleFacts()).start


def fail(folder: Path) -> None:
    """Give a run the files of one that failed on this machine."""
    attempt = folder / "attempts" / "1"
    attempt.mkdir(parents=True)
    write_json(attempt / "job.json", {"cluster": "local", "job_id": "1"})
    write_json(attempt / "started.json", {"cluster": "local", "job_id": "1", "started": 1.0, "host": "x"})
    outcome = {"status": "failed", "ended": 2.0, "error_type": "DataError", "message": "row 7 has no label"}
    write_json(attempt / "outcome.json", outcome)


def test_the_same_runs_give_the_same_sbatch_file_however_they_start(
    write_sweep: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The files that are really submitted are compared with the dry run's in tests/cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    write_sweep(SWEEP)
    (tmp_path / "site.yaml").write_text(PROFILE)
    sweep = Sweep.load("s.yaml", cluster="site.yaml")
    for run in sweep.plan.runs:
        fail(sweep.ledger.folder(run))

    def printed(*words: str) -> str:
        assert command_line.main([*words, "--cluster", "site.yaml", "-n"]) == 0
        return capsys.readouterr().out.split("--- sbatch file 1 of 1\n")[1].split("---\n")[0].rstrip("\n")

    by_submit = printed("submit", "s.yaml")
    for option in ("--partition=debug", "--account=lab", "--mem=4096MB", "--time=30", "--cpus-per-task=1"):
        assert f"#SBATCH {option}\n" in by_submit
    assert "gpus" not in by_submit and "--array=0-2" in by_submit
    assert printed("retry", "s.yaml") == by_submit
    assert printed("retry", "s.yaml", "--failed") == by_submit
    sweep = Sweep.load("s.yaml", cluster="site.yaml")
    assert [text.rstrip("\n") for text in sweep.dry_run().texts] == [by_submit]
    assert [text.rstrip("\n") for text in sweep.dry_run(retry_rule(failed=True)).texts] == [by_submit]
    some = printed("retry", "s.yaml", "seed=2")
    assert "--partition=debug" in some and "--array" not in some
