"""What a user's shell and site bring along: variables of SLURM, --export=NONE, greetings, another cluster."""

from __future__ import annotations

import json

from slurm_cluster import SlurmCluster
from sweep_command import CommandLine
from test_interrupted_submit import KILLER, job_ids, with_sbatch
from test_slurm_commands import SLOW, SMALL, slurm, wait_for, write


def profile(line: CommandLine, text: str) -> None:
    (line.folder / "clusters").mkdir(exist_ok=True)
    (line.folder / "clusters/site.yaml").write_text(text)


def test_another_cluster(second_cluster: SlurmCluster, accounting_line: CommandLine) -> None:
    """Submit, status, why, cancel and a submit that was killed, all on a cluster that is not the shell's own."""
    line, second = accounting_line, second_cluster.call
    profile(line, "cluster: second\nresources: {account: LAB}")
    write(line, "1, 85, 2", resources=f"{SMALL}, max_parallel: 1, runs: {{'*seed2': {{mem_gb: 0.4}}}}")
    code, out = line.run("s.yaml", "--cluster", "site")
    assert code == 0 and "3 of 3 runs to start" in out, out
    (first, _) = job_ids(line)
    assert first in second("squeue", "-h", "--states=all", "-o", "%A").stdout
    wait_for(line, lambda counts: counts == {"done": 3})  # 85 restarts by itself
    assert {run["slurm_cluster"] for run in line.status()["runs"].values()} == {"second"}
    record = json.loads((line.folder / "runs/s/submissions/1.json").read_text())
    assert record["slurm_cluster"] == "second" and record["job_id"] == first

    write(line, "3", SLOW, f"{SMALL}, sbatch: {{hold: true}}")
    before = with_sbatch(line, KILLER)
    assert line.run("s.yaml")[0] == -9
    line.environment["PATH"] = before
    code, out = line.run("s.yaml")
    assert "0 of 1 runs to start" in out and "is of a submit that was interrupted" in out, out
    job = job_ids(line)[-1]
    assert f"`scontrol --clusters=second release {job}`" in line.run("why", "s.yaml")[1]
    slurm(line, "scontrol", "--clusters=second", "release", str(job))
    wait_for(line, lambda counts: counts == {"running": 1})
    assert "cancel hyperformer++ (" in line.run("cancel", "s.yaml", "-y")[1]
    wait_for(line, lambda counts: counts == {"cancelled": 1})
    assert second("squeue", "-h", "-j", str(job), "--states=R").stdout == ""
