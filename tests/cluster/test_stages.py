"""Stages that follow each other on a real SLURM, whatever happens to the jobs of the first."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_sweep import slurm
from sweep_command import TOY, CommandLine
from test_faults import without_scontrol

SMALL = "gpus_per_node: 0, cpus_per_task: 1, mem_gb: 0.5, time: 5"


def write(line: CommandLine, seeds: str, *, head: str = "", steps: int = 3, more: str = "") -> Path:
    path = line.folder / "s.yaml"
    path.write_text(f"""
{head}
renew_report: false
base: {TOY.replace("max_steps: 3", f"max_steps: {steps}").replace("0.01", "0.3")}
variants: [hyperformer++, adapters_dagger]
resources: {{{SMALL}, variants: {{adapters_dagger: {{cpus_per_task: 2{more}}}}}}}
stages:
  train:
    tasks: [toy-sentiment, toy-paraphrase]
    grid: {{seed: [{seeds}]}}
  transfer:
    base: {{max_steps: 1, init_from: {{stage: train}}, init_tasks: {{toy-entailment: toy-paraphrase}}}}
    tasks: [toy-entailment]
""")
    return path


def study(line: CommandLine) -> dict[str, Any]:
    _, out = line.run("status", "s.yaml", "--json")
    record = json.loads(out[out.index("{") :])
    return {**record, **{stage["stage"]: stage for stage in record["stages"]}}


def wait_until(what: Callable[[], object], told: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"it took too long: {told()}"
        time.sleep(0.5)


def results(line: CommandLine, stage: str) -> list[Path]:
    return list(line.folder.glob(f"runs/s.{stage}/*/result.json"))


@pytest.mark.slow
def test_a_source_that_is_requeued_or_submitted_again_is_waited_for(slurm_line: CommandLine) -> None:
    """The job of one run keeps its id, that of the other becomes a new one, which no dependency knows."""
    line = slurm_line
    write(line, "42", steps=40, more=without_scontrol(line))
    code, out = line.run("s.yaml")
    assert code == 0 and "transfer waits: 2 runs of s.train have not ended" in out, out
    train = line.folder / "runs/s.train"
    wait_until(lambda: len(list(train.glob("*/checkpoints/step"))) == 2, lambda: study(line))
    jobs = {run["name"]: run["job_id"] for run in study(line)["train"]["runs"]}
    slurm(line, "scontrol", "requeue", jobs["hyperformer++"])
    slurm(line, "scancel", "--signal=USR2", jobs["adapters_dagger"])
    log = line.folder / "runs/s.transfer/gate.log"
    wait_until(lambda: log.exists() or len(results(line, "transfer")) == 2, lambda: study(line))
    wait_until(lambda: len(results(line, "transfer")) == 2, lambda: (study(line), log.read_text()))
    assert list(train.glob("submissions/*.moved/0.json"))  # it was submitted again
    assert min(path.stat().st_mtime for path in line.folder.glob("runs/s.transfer/*/attempts")) > max(
        path.stat().st_mtime for path in results(line, "train")
    )
    wait_until(lambda: (line.folder / "runs/s.transfer/report/report.md").exists(), lambda: study(line))
    wait_until(lambda: study(line)["report"] == "", lambda: study(line))
    code, out = line.run("status", "s.yaml")
    out = " ".join(out.split())  # a long path breaks the line elsewhere
    assert code == 0 and "starts it" not in out and "2 done" in out, out


@pytest.mark.slow
def test_a_stage_whose_source_failed_says_so_and_retry_sets_it_going(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "15", head="after: 987654")
    code, out = line.run("s.yaml", "-n")
    assert code == 2 and "after: SLURM does not know job 987654" in out, out
    before = slurm(line, "sbatch", "--parsable", "-o", "/dev/null", "--wrap", "sleep 8").strip()
    write(line, "15", head=f"after: {before}")
    code, out = line.run("s.yaml")
    assert code == 0 and f"waits: job {before} has not ended" in out, out
    assert not (line.folder / "runs/s.train/submissions").exists()
    wait_until(lambda: "does not start" in study(line)["transfer"]["waits"], lambda: study(line))
    found = study(line)
    assert found["transfer"]["waits"].startswith(
        "does not start: 2 runs of s.train have no result: hyperformer++"
    )
    assert "row 7 has no label" in found["transfer"]["waits"] and not results(line, "transfer")
    code, out = line.run("status", "s.yaml")
    assert code == 1 and "stage transfer does not start" in out
    code, out = line.run("submit", "s.yaml")  # `retry` leaves runs that the same code would fail again
    assert code == 0 and "transfer waits: 2 runs of s.train have not ended" in out, out
    wait_until(lambda: len(results(line, "transfer")) == 2, lambda: study(line))
    wait_until(lambda: study(line)["report"] == "", lambda: study(line))

    text = (line.folder / "s.yaml").read_text()
    (line.folder / "s.yaml").write_text(
        text.replace("[15]", "[3]")
        .replace(f"after: {before}", "")
        .replace("max_steps: 3,", "max_steps: 200,")
    )
    assert line.run("s.yaml")[0] == 0
    gate = json.loads((line.folder / "runs/s.transfer/gate.json").read_text())
    slurm(line, "scancel", gate["job_id"])
    wait_until(lambda: "is gone" in study(line)["transfer"]["waits"], lambda: study(line))
    code, out = line.run("submit", "s.yaml")
    assert code == 0 and "starts it)" in study(line)["transfer"]["waits"], out
    code, out = line.run("cancel", "s.yaml", "-y")
    assert code == 0 and "stage transfer will not start by itself" in out, out
    assert study(line)["transfer"]["waits"] == "does not start: cancelled by the user"
