"""What a user's shell and site bring along: variables of SLURM, --export=NONE, greetings, another cluster."""

from __future__ import annotations

import json

import manual_pages
import pytest
from slurm_cluster import SlurmCluster
from small_sweep import SLOW, SMALL, slurm, wait_for, write
from sweep_command import CommandLine
from test_interrupted_submit import KILLER, job_ids, with_sbatch

from launchers.slurm.commands import KEPT


def profile(line: CommandLine, text: str) -> None:
    (line.folder / "clusters").mkdir(exist_ok=True)
    (line.folder / "clusters/site.yaml").write_text(text)


@pytest.mark.slow
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


# Values that are wrong without an error; the other variables of the manual pages are set to nonsense.
WRONG = {
    "SBATCH_JOB_NAME": "bert", "SBATCH_TIMELIMIT": "1", "SBATCH_PARTITION": "short", "SBATCH_NO_REQUEUE": "1",
    "SBATCH_EXPORT": "NONE", "SBATCH_ARRAY_INX": "7", "SBATCH_OUTPUT": "/dev/null", "SBATCH_CLUSTERS": "nowhere",
    "SQUEUE_STATES": "PD", "SQUEUE_USERS": "nobody", "SQUEUE_FORMAT": "%j", "SQUEUE_PARTITION": "short",
    "SQUEUE_NAMES": "bert", "SCANCEL_STATE": "PENDING", "SCANCEL_NAME": "bert", "SCANCEL_INTERACTIVE": "1",
    "SLURM_CLUSTERS": "nowhere", "SLURM_TIME_FORMAT": "relative", "SLURM_BITSTR_LEN": "1",
}  # fmt: skip


def test_no_variable_of_a_shell_alters_anything(accounting_line: CommandLine) -> None:
    """Every variable of SLURM's manual pages, around the commands and within the jobs."""
    line = accounting_line
    clean = dict(line.environment)
    names = manual_pages.variables(*manual_pages.PAGES) - set(KEPT)
    assert len(names) > 150
    bad = {**line.environment, **{name: WRONG.get(name, "nonsense") for name in names}}
    # bash reads this file before its script: so a job with --get-user-env has the variables of a login shell.
    shell = line.folder / "shell"
    in_the_job = [*manual_pages.read_by_srun_only(), "SCONTROL_ALL", "SLURM_CLUSTERS"]
    shell.write_text(
        "".join(f"export {name}=nonsense\n" for name in in_the_job) + "export SLURM_EXPORT_ENV=NONE\n"
    )
    profile(line, f"environment: {{BASH_ENV: {shell}}}")
    write(line, "1, 85, 13", resources=f"{SMALL}, runs: {{'*seed13': {{time: 7}}}}")
    line.environment = bad
    code, out = line.run("s.yaml", "--cluster", "site")
    assert code == 0 and "3 of 3 runs to start" in out and "not used: SBATCH_" in out, out
    line.environment = clean
    shown = slurm(
        line, "squeue", "-h", "-r", "--states=all", "-j", ",".join(map(str, job_ids(line))), "-o", "%l %P"
    )
    assert set(shown.splitlines()) == {"5:00 debug", "7:00 debug"}
    line.environment = bad
    wait_for(line, lambda counts: counts == {"done": 2, "failed": 1})
    assert "DataError: row 7 has no label" in line.run("why", "s.yaml")[1]

    write(line, "3", SLOW)
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"running": 1})
    assert line.run("cancel", "s.yaml", "-y")[0] == 0
    wait_for(line, lambda counts: counts == {"cancelled": 1})
    line.environment = clean
    wait_for(line, lambda counts: not slurm(line, "squeue", "-h", "--states=R,PD", "--me"))


GREETER = """\
#!/bin/bash
echo "Welcome. This is job 3 of 50."
echo "sbatch: error: Note: maintenance on Monday" >&2
exec {sbatch} "$@"
"""


def test_a_site_that_greets_and_keeps_nodes_for_later(accounting_line: CommandLine) -> None:
    line = accounting_line
    later = ("reservationname=later", "starttime=now+1hour", "duration=60", "users=root", "nodes=node1")
    slurm(line, "scontrol", "create", "reservation", *later)
    before = with_sbatch(line, GREETER)
    try:
        write(line, "1", resources=f"{SMALL}, reservation: later")
        code, out = line.run("s.yaml")
        assert code == 0 and "1 of 1 runs to start" in out, out
        assert job_ids(line)[0] in slurm(line, "squeue", "-h", "-o", "%A")
        wait_for(line, lambda counts: counts == {"pending": 1})
        line.run("cancel", "s.yaml", "-y")
        write(line, "2", resources=f"{SMALL}, sbatch: {{nodelist: node9}}")
        code, out = line.run("s.yaml")
        assert code == 2 and "Note: maintenance on Monday" in out and "Invalid node name specified" in out, (
            out
        )
    finally:
        line.environment["PATH"] = before
        slurm(line, "scontrol", "delete", "reservation=later")
