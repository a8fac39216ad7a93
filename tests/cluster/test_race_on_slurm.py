"""A race on a real SLURM: small jobs between the runs move settings on, with nobody waiting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_sweep import slurm
from sweep_command import CommandLine
from test_stages import SMALL, wait_until

SWEEP = f"""
base: {{model_name_or_path: toy, data_source: toy, max_steps: 8, eval_steps: 2, warmup_steps: 0, weight_decay: 0.05}}
variants: [adapters_dagger]
tasks: [toy-sentiment]
grid: {{learning_rate: [1, 4, 3, 2]}}
race: {{over: [learning_rate], rungs: [2, 4]}}
resources: {{{SMALL}}}
"""


def gate(line: CommandLine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((line.folder / "runs/s/gate.json").read_text())
    return found


@pytest.mark.slow
def test_a_race_goes_on_by_itself_and_after_its_job_was_cancelled(slurm_line: CommandLine) -> None:
    line = slurm_line
    (line.folder / "s.yaml").write_text(SWEEP)
    code, out = line.run("s.yaml")
    assert code == 0 and "race: 4 to step 2, 2 to step 4, 1 to the end; 16 of the 32 steps" in out, out
    slurm(line, "scancel", gate(line)["job_id"])
    wait_until(lambda: line.status()["counts"] == {"paused": 2, "stopped": 2}, line.status)
    notes = line.status()["notes"]
    assert any("which was to continue it, is gone" in note for note in notes), notes

    code, out = line.run("submit", "s.yaml")
    assert code == 0 and "2 of 4 runs to start" in out, out
    log = line.folder / "runs/s/gate.log"
    wait_until(lambda: gate(line)["state"] == "over", lambda: (line.status(), log.read_text()))
    found = line.status()
    assert found["counts"] == {"done": 1, "paused": 3} and not found["notes"]
    steps = {name: run["step"] for name, run in found["runs"].items()}
    assert steps == {
        "adapters_dagger-lr1": 2, "adapters_dagger-lr2": 2, "adapters_dagger-lr3": 4, "adapters_dagger-lr4": 8,
    }  # fmt: skip
    assert "left by its race at step 4" in (line.folder / "runs/s/report/report.md").read_text()
    # Each start went on from where the one before had paused.
    (winner,) = (Path(run["folder"]) for run in found["runs"].values() if run["state"] == "done")
    starts = [json.loads((winner / f"attempts/{n}/started.json").read_text()) for n in (1, 2, 3)]
    assert len({start["job_id"] for start in starts}) == 3
    code, out = line.run("submit", "s.yaml")
    assert code == 0 and "0 of 4 runs to start" in out, out


@pytest.mark.slow
def test_cancel_ends_a_race_and_retry_resumes_it(slurm_line: CommandLine) -> None:
    line = slurm_line
    (line.folder / "s.yaml").write_text(SWEEP)
    code, out = line.run("s.yaml", "--max-parallel", "2")
    assert code == 0, out
    wait_until(lambda: line.status()["counts"].get("paused", 0) >= 1, line.status)
    code, out = line.run("cancel", "s.yaml", "-y")
    assert code == 0 and "end the race: no run moves on by itself" in out, out
    wait_until(lambda: not slurm(line, "squeue", "-h", "--me"), lambda: slurm(line, "squeue"))
    found = line.status()
    assert gate(line)["state"] == "cancelled" and set(found["counts"]) <= {
        "paused",
        "stopped",
        "cancelled",
    }, found
    assert any("race: it was cancelled" in note for note in found["notes"]), found["notes"]

    code, out = line.run("retry", "s.yaml", "-y")
    assert code == 0, out
    wait_until(lambda: gate(line)["state"] == "over", lambda: (line.status(), gate(line)))
    found = line.status()
    assert found["counts"] == {"done": 1, "paused": 3} and not found["notes"]
