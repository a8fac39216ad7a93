"""What a site can refuse: found by the preflight, or SLURM's own answer; limits on arrays and submitted jobs."""

from __future__ import annotations

import json
import os
import re
import time

import pytest
from small_sweep import SLOW, SMALL, slurm, wait_for, write
from sweep_command import TOY, CommandLine


def test_preflight_tells_everything_at_once(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(
        line, "1, 2, 3",
        resources=f"{SMALL}, partition: short, runs: {{'*seed1': {{time: 60, gpus_per_node: 5}}, "
        "'*seed2': {partition: dbug, setup: 'echo \"'}, '*seed3': {nodes: 2, constraint: h100, mem_gb: 900}}",
    )  # fmt: skip
    code, out = line.run("s.yaml", "--cluster", "slurm")
    assert code == 2
    for message in (
        "time: 60 minutes, but partition short allows 30 (hyperformer++-seed1)",
        "gpus_per_node: 5, but partition short has 4 per node",
        "partition 'dbug': there is none of that name; did you mean 'debug'?",
        "nodes: 2, but partition short gives 1 at most",
        "constraint 'h100': no node of partition short has it",
        "the set-up commands are not shell: ",
        "mem_gb: 900, but partition short has 62 GB per node",
    ):
        assert message in out, message
    assert not list(line.folder.glob("runs/s/*"))


def test_a_way_past_a_finding_and_a_list_of_partitions(slurm_line: CommandLine) -> None:
    line = slurm_line
    path = write(line, "1", resources=f"{SMALL}, partition: short".replace("time: 5", "time: 60"))
    code, out = line.run("s.yaml", "--cluster", "slurm")
    assert code == 2 and "to start all the same: --ignore time (all: --no-preflight)" in out
    code, out = line.run("s.yaml", "--cluster", "slurm", "--ignore", "time")
    assert code == 0 and "note: ignored: time: 60 minutes, but partition short allows 30" in out, out
    assert line.status()["counts"] == {"pending": 1}  # as SLURM was told
    line.run("cancel", "s.yaml", "-y")
    path.write_text(path.read_text().replace("partition: short", "partition: 'short,debug'"))
    code, out = line.run("s.yaml", "-n")
    assert code == 0 and "of their partitions: time: 60 minutes, but partition short allows 30" in out, out


def test_what_slurm_took_before_it_refused_is_told(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2, 3", resources=f"{SMALL}, runs: {{'*seed3': {{partition: dbug}}}}")
    code, out = line.run("s.yaml", "--cluster", "slurm", "--no-preflight")
    assert code == 2 and "note: ignored: partition 'dbug': there is none of that name" in out
    assert re.search(r"invalid partition.*; 2 of 3 runs were submitted before that \(SLURM job \d+\)", out), (
        out
    )
    wait_for(line, lambda counts: counts == {"done": 2, "missing": 1})


def test_held_and_never_satisfiable(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1", SLOW)
    write(line, "1", SLOW, f"{SMALL}, sbatch: {{hold: true}}", name="held")
    assert line.run("s.yaml")[0] == line.run("held.yaml")[0] == 0
    job = line.status()["runs"]["hyperformer++"]["job_id"]
    slurm(line, "scontrol", "hold", job)
    assert "JobHeldUser: held by its user: `scontrol release" in line.run("why", "held.yaml")[1]
    dependent = slurm(line, "sbatch", "--parsable", f"--dependency=afterok:{job}", "--wrap", "true").strip()
    slurm(line, "scancel", job)
    wait_for(line, lambda counts: "running" not in counts and "pending" not in counts)
    record = line.folder / "runs/held/submissions/1.json"
    text = json.loads(record.read_text())
    name = slurm(line, "squeue", "-h", "-j", dependent, "-o", "%j").strip()
    record.write_text(json.dumps({**text, "job_id": dependent, "job_name": name}))
    end = time.monotonic() + 300
    while "it will never start" not in (out := line.run("why", "held.yaml")[1]):
        assert time.monotonic() < end, out
        time.sleep(1)
    line.run("cancel", "held.yaml", "-y")
    slurm(line, "scancel", text["job_id"])


@pytest.mark.slow
def test_arrays_are_split_and_the_cap_holds(accounting_line: CommandLine) -> None:
    line = accounting_line
    slow = TOY.replace("0.01", "0.3")
    write(line, "1, 2, 3, 4, 5, 6, 14", slow, f"{SMALL}, max_parallel: 2")
    code, out = line.run("s.yaml")
    assert code == 0 and re.findall(r"SLURM job \d+: (\d) runs", out) == ["4", "3"], out
    most, end = 0, time.monotonic() + 300
    while slurm(line, "squeue", "-h", "-r"):
        most = max(most, len(slurm(line, "squeue", "-h", "-r", "-t", "R").splitlines()))
        assert time.monotonic() < end
        time.sleep(0.2)
    assert most == 2
    time.sleep(3)  # squeue has forgotten them: sacct must tell
    wait_for(line, lambda counts: counts == {"done": 6, "failed": 1})
    run = line.status()["runs"]["hyperformer++-seed14"]
    assert run["slurm_state"] == "FAILED" and run["host"].startswith("node")


def test_accounts_and_submit_limits(accounting_line: CommandLine) -> None:
    line = accounting_line
    path = write(line, "1, 2, 3", resources=f"{SMALL}, account: labb, qos: lng")
    code, out = line.run("s.yaml")
    assert code == 2
    assert "account 'labb': you have none of that name; did you mean 'lab'?" in out
    assert "qos 'lng': you have none of that name; did you mean 'long'?" in out
    # SLURM takes these names in any case.
    path.write_text(path.read_text().replace("account: labb, qos: lng", "account: LAB, qos: Normal"))
    modify = ("sacctmgr", "-i", "modify")
    slurm(line, *modify, "user", "root", "set", "MaxSubmitJobs=2")
    slurm(line, *modify, "qos", "normal", "set", "MaxSubmitJobsPerUser=1")
    try:
        code, out = line.run("s.yaml")
        assert code == 0 and "1 of 3 runs to start" in out, out
        assert "2 runs are left for a later submit: the QOS normal takes no more jobs now" in out, out
        wait_for(line, lambda counts: counts == {"done": 1, "missing": 2})
        slurm(line, *modify, "qos", "normal", "set", "MaxSubmitJobsPerUser=-1", "GrpSubmitJobs=9")
        slurm(line, *modify, "account", "lab", "set", "GrpSubmitJobs=1")
        assert "the account lab with all its users takes no more jobs now" in line.run("s.yaml")[1]
        wait_for(line, lambda counts: counts == {"done": 2, "missing": 1})
        slurm(line, *modify, "account", "lab", "set", "GrpSubmitJobs=0")
        code, out = line.run("s.yaml")
        assert code == 0 and "0 of 3 runs to start, 2 done" in out and "submit again" in out
        slurm(line, *modify, "account", "lab", "set", "GrpSubmitJobs=-1")
        assert "1 of 3 runs to start, 2 done" in line.run("s.yaml")[1]
        wait_for(line, lambda counts: counts == {"done": 3})
    finally:
        slurm(line, *modify, "account", "lab", "set", "GrpSubmitJobs=-1")
        slurm(line, *modify, "user", "root", "set", "MaxSubmitJobs=-1")
        slurm(line, *modify, "qos", "normal", "set", "GrpSubmitJobs=-1", "MaxSubmitJobsPerUser=-1")


def test_a_submit_limit_that_cannot_be_read(accounting_line: CommandLine) -> None:
    """sacctmgr is denied here; SLURM keeps to the limit all the same."""
    line = accounting_line
    write(line, "1, 2, 3, 4, 5, 6, 7", SLOW)
    modify = ("sacctmgr", "-i", "modify", "qos", "normal", "set")
    slurm(line, *modify, "MaxSubmitJobsPerUser=3")
    before = line.environment["PATH"]
    denied = line.folder / "bin" / "sacctmgr"
    denied.parent.mkdir()
    denied.write_text("#!/bin/sh\nexit 1\n")
    denied.chmod(0o755)
    line.environment["PATH"] = f"{denied.parent}:{before}"
    try:
        code, out = line.run("s.yaml")
        told = (
            "4 runs are left for a later submit: SLURM takes no more jobs now (QOSMaxSubmitJobPerUserLimit)"
        )
        assert code == 0 and told in out, out
        assert line.status()["counts"]["missing"] == 4
        line.run("cancel", "s.yaml", "-y")
        wait_for(line, lambda counts: counts == {"cancelled": 3, "missing": 4})
    finally:
        line.environment["PATH"] = before
        slurm(line, *modify, "MaxSubmitJobsPerUser=-1")


def test_too_little_is_left_of_a_quota(slurm_line: CommandLine) -> None:
    """The command `quota` is a pretended one."""
    line = slurm_line
    write(line, "1, 2")
    quota = line.folder / "bin" / "quota"
    quota.parent.mkdir()
    quota.write_text(
        f"#!/bin/sh\necho 'Disk quotas for user me (uid {os.geteuid()}): '\n"
        "echo '  /dev/sda1  20480  0  21504  0  190*  100  200  0'\n"
    )
    quota.chmod(0o755)
    line.environment["PATH"] = f"{quota.parent}:{line.environment['PATH']}"
    code, out = line.run("s.yaml")
    assert code == 2 and "your quota leaves 1 MB (20 of 21 MB used), but 2 runs need about 2 MB" in out
    assert "your quota leaves 10 files (190 of 200 files used)" in out and "nothing was started" in out
    assert not (line.folder / "runs/s/submissions").exists()
