"""Whether a stage may start, and what is recorded of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.resources import Resources
from launchers.stages.verdict import READY, judge
from launchers.status.run_status import STATES, RunStatus
from launchers.store.code_snapshot import Snapshot
from launchers.submit.gate import record
from launchers.submit.gate.gate_job import Gate
from launchers.submit.gate.record import GateRecord


def run(state: Any, name: str = "a", **more: Any) -> RunStatus:
    return RunStatus(name, name, f"/r/{name}", state, **more)


def test_a_stage_starts_when_every_run_before_it_has_ended_well() -> None:
    kinds = {state: judge("s", [run("done"), run(state)]).kind for state in STATES}
    going = {"running", "pending", "waiting", "unknown"}
    assert kinds == {s: "ready" if s == "done" else "waits" if s in going else "blocked" for s in STATES}
    # What nobody can read, of a newer version for example, does not become readable by waiting.
    assert judge("s", [run("unknown", unreadable="newer")]).kind == "blocked"


def test_a_run_that_diverged_counts_as_ended_only_where_a_choice_leaves_it_out() -> None:
    diverged = run("failed", kind="diverged", detail="Diverged: the loss is nan")
    assert judge("s", [run("done"), diverged], may_diverge=True) == READY
    assert judge("s", [run("done"), diverged]).why == (
        "1 run of s has no result: a (failed: Diverged: the loss is nan)"
    )
    assert judge("s", [run("running", kind="diverged")], may_diverge=True).kind == "waits"


def test_the_jobs_to_wait_for() -> None:
    """Arrays count once. A task that was submitted again is in another job. Local processes are no jobs."""
    going = [
        run("pending", cluster="slurm", job_id="7_0"), run("running", cluster="slurm", job_id="7_1"),
        run("pending", cluster="slurm", job_id="9_2"), run("running", cluster="local", job_id="123"),
        run("done", cluster="slurm", job_id="6"), run("failed", cluster="slurm", job_id="5"),
    ]  # fmt: skip
    found = judge("s", going)
    assert (found.kind, found.jobs, found.why) == ("waits", ("7", "9"), "4 runs of s have not ended")


def test_the_record_reads_back_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "s" / "gate.json"
    assert record.read(path) is None
    written = record.write(path, GateRecord("waits", "b", jobs=("7", "9"), ignored=("disk",), token="t"))
    assert record.read(path) == written
    path.write_text("{")
    assert record.read(path) is None


def test_the_gate_asks_for_little_and_hides_secrets(tmp_path: Path) -> None:
    profile = ClusterProfile(
        "site", resources=Resources(gpus_per_node=4, account="lab", partition="gpu", mem_gb=100, setup=("module x",)),
        environment=(("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz"), ("A", "1 2")),
    )  # fmt: skip
    text = Gate("hyperformer-x-b-gate", tmp_path / "gate.json", "t0", profile, Snapshot(tmp_path)).text
    assert "gpu:" not in text and "gpus" not in text and "hf_" not in text
    assert "#SBATCH --account=lab\n" in text and "#SBATCH --partition=gpu\n" in text and "module x" in text
    assert "--mem=2048MB" in text and "--requeue\n" in text and "export A='1 2'" in text
    assert text.rstrip().endswith(f"-m launchers.stages {tmp_path}/gate.json t0")
