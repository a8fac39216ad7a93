"""A submit that is killed at the very moment when SLURM has accepted the array: no run is lost, none starts twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster
from small_sweep import SMALL, slurm, wait_for, write
from sweep_command import CommandLine

# Submits, and then kills whoever called; the answer never arrives.
KILLER = """\
#!/bin/bash
case "$*" in *--test-only*) exec {sbatch} "$@" ;; esac
{sbatch} "$@" >>{folder}/taken
kill -9 $PPID
sleep 1
"""
REFUSER = """\
#!/bin/bash
case "$*" in *--test-only*) exec {sbatch} "$@" ;; esac
{sbatch} "$@" >>{folder}/taken
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1
"""


# SLURM refuses the job, and remembers it for a while as one that FAILED.
REJECTED = """\
#!/bin/bash
case "$*" in *--test-only*) exec {sbatch} "$@" ;; esac
touch {folder}/taken
exec {sbatch} --mem=1000000 "$@"
"""


# Submits, and then the disk is full: the job id cannot be written down.
FILLER = """\
#!/bin/bash
case "$*" in *--test-only*) exec {sbatch} "$@" ;; esac
{sbatch} "$@"
dd if=/dev/zero of={folder}/runs/filler bs=4k 2>/dev/null
cat /dev/zero >>{folder}/runs/filler 2>/dev/null
exit 0
"""


def with_sbatch(line: CommandLine, script: str) -> str:
    """Put a script before the real sbatch; returns the PATH as it was."""
    before = line.environment["PATH"]
    real = shutil.which("sbatch", path=before)
    folder = line.folder / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "sbatch").write_text(script.format(sbatch=real, folder=line.folder))
    (folder / "sbatch").chmod(0o755)
    line.environment["PATH"] = f"{folder}:{before}"
    return before


def job_ids(line: CommandLine) -> list[str | None]:
    records = sorted((line.folder / "runs/s/submissions").glob("*.json"))
    return [json.loads(path.read_text())["job_id"] for path in records]


def starts(line: CommandLine) -> dict[str, int]:
    """How often each run was started."""
    found: dict[str, int] = {}
    for path in (line.folder / "runs/s").glob("*/attempts/*/stdout.log"):
        name = path.parents[2].name
        found[name] = found.get(name, 0) + path.read_text().count("start at step")
    return found


@pytest.mark.parametrize("seeds", ["1, 2, 3", "1"])
def test_killed_when_sbatch_had_accepted(slurm_line: CommandLine, seeds: str) -> None:
    line = slurm_line
    write(line, seeds)
    before = with_sbatch(line, KILLER)
    code, out = line.run("s.yaml")
    assert code == -9 and (line.folder / "taken").read_text().strip().isdigit(), out
    assert job_ids(line) == [None]
    line.environment["PATH"] = before
    code, out = line.run("s.yaml")
    count = len(seeds.split(","))
    assert code == 0 and f"0 of {count} runs to start" in out, out
    (job_id,) = job_ids(line)
    assert f"job {job_id} is of a submit that was interrupted" in out
    wait_for(line, lambda counts: counts == {"done": count})
    assert set(starts(line).values()) == {1} and len(starts(line)) == count


def test_looked_at_after_the_jobs_have_ended(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2")
    before = with_sbatch(line, KILLER)
    line.run("s.yaml")
    line.environment["PATH"] = before
    wait_for(line, lambda counts: counts == {"done": 2})
    code, out = line.run("s.yaml")
    assert code == 0 and "0 of 2 runs to start, 2 done" in out


def test_an_answer_of_sbatch_that_was_lost(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2")
    before = with_sbatch(line, REFUSER)
    code, out = line.run("s.yaml")
    assert code == 0 and "Socket timed out" in out and "but SLURM has taken job" in out, out
    line.environment["PATH"] = before
    code, out = line.run("s.yaml")
    assert code == 0 and "0 of 2 runs to start" in out, out
    wait_for(line, lambda counts: counts == {"done": 2})
    assert set(starts(line).values()) == {1}


def test_a_job_that_slurm_rejected_is_not_ours(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2")
    before = with_sbatch(line, REJECTED)
    code, out = line.run("s.yaml")
    assert code == 2 and "Requested node configuration is not available" in out, out
    line.environment["PATH"] = before
    (record,) = (line.folder / "runs/s/submissions").glob("*.json")
    name = f"--name={json.loads(record.read_text())['job_name']}"
    assert slurm(line, "squeue", "-h", "--states=all", name, "-o", "%T") == "FAILED\n"
    assert line.status()["counts"] == {"missing": 2}
    code, out = line.run("s.yaml")
    assert code == 0 and "2 of 2 runs to start" in out, out
    wait_for(line, lambda counts: counts == {"done": 2})


def test_disk_full_when_sbatch_had_accepted(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2", resources=f"{SMALL}, sbatch: {{hold: true}}")
    disk = line.folder / "runs"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], check=True)
    try:
        before = with_sbatch(line, FILLER)
        code, out = line.run("s.yaml")
        assert code == 2 and "No space left on device" in out and "Traceback" not in out, out
        assert job_ids(line) == [None]
        line.environment["PATH"] = before
        (disk / "filler").unlink()
        code, out = line.run("s.yaml")
        assert code == 0 and "0 of 2 runs to start, 2 pending" in out, out
        # The nodes are namespaces that do not see this disk: that the jobs are known is all there is to see.
        (job_id,) = job_ids(line)
        slurm(line, "scancel", str(job_id))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_killed_before_sbatch_had_it(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2")
    before = with_sbatch(line, KILLER.replace('{sbatch} "$@" >>', "true >>"))
    assert line.run("s.yaml")[0] == -9
    line.environment["PATH"] = before
    assert line.status()["counts"] == {"missing": 2}
    code, out = line.run("s.yaml")
    assert code == 0 and "2 of 2 runs to start" in out
    wait_for(line, lambda counts: counts == {"done": 2})
    assert set(starts(line).values()) == {1} and len(job_ids(line)) == 2


@pytest.mark.slow
def test_slurm_cannot_be_asked(slurm_cluster: SlurmCluster, slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2")
    before = with_sbatch(line, KILLER)
    line.run("s.yaml")
    line.environment["PATH"] = before
    slurm_cluster.stop_controller()
    try:
        code, out = line.run("status", "s.yaml")
        assert code == 0 and "2 unknown" in out and "whether SLURM has its jobs cannot be asked" in out
        code, out = line.run("s.yaml")
        assert "0 of 2 runs to start, 2 unknown" in out
    finally:
        slurm_cluster.start_controller()
    wait_for(line, lambda counts: counts == {"done": 2})
    assert set(starts(line).values()) == {1}


def test_accounting_knows_what_the_queue_forgot(accounting_line: CommandLine) -> None:
    """squeue forgets ended jobs after two seconds here."""
    line = accounting_line
    write(line, "1, 2")
    before = with_sbatch(line, KILLER.replace("kill -9 $PPID", "sleep 0"))
    code, out = line.run("s.yaml")  # sbatch's answer goes into a file
    assert code == 0 and "is not a job id; but SLURM has taken job" in out, out
    line.environment["PATH"] = before
    wait_for(line, lambda counts: counts == {"done": 2})
    record = line.folder / "runs/s/submissions/1.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps({**told, "job_id": None}))
    while slurm(line, "squeue", "-h", "--states=all", f"--name={told['job_name']}"):
        time.sleep(0.5)
    assert line.status()["counts"] == {"done": 2}
    assert job_ids(line) == [told["job_id"]]


def test_a_queued_job_whose_record_was_deleted_runs_nothing(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(
        line,
        "1, 2",
        resources="gpus_per_node: 0, cpus_per_task: 1, mem_gb: 0.5, time: 5, sbatch: {hold: true}",
    )
    assert line.run("s.yaml")[0] == 0
    (old,) = job_ids(line)
    shutil.rmtree(line.folder / "runs/s/submissions")
    assert "submissions/ is gone" in line.run("status", "s.yaml")[1]
    assert "2 of 2 runs to start" in line.run("s.yaml")[1]
    (new,) = job_ids(line)
    slurm(line, "scontrol", "release", str(old))
    slurm(line, "scontrol", "release", str(new))
    wait_for(line, lambda counts: counts == {"done": 2})
    while slurm(line, "squeue", "-h", "-j", str(old)):
        pass
    assert set(starts(line).values()) == {1}
    log = Path(line.folder / f"runs/s/submitit/{old}_0_0_log.err").read_text()
    assert f"is not of job {old}" in log


@pytest.mark.parametrize("seed", range(int(os.environ.get("HYPERFORMER_KILLS", "6"))))
def test_killed_at_any_moment(slurm_line: CommandLine, seed: int) -> None:
    """And again, until one gets through."""
    line = slurm_line
    write(line, "1, 2")
    dice = random.Random(seed)
    for _ in range(3):
        process = line.start("s.yaml")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=dice.uniform(0.15, 0.9))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    code, out = line.run("s.yaml")
    assert code == 0, out
    wait_for(line, lambda counts: counts == {"done": 2})
    assert set(starts(line).values()) == {1} and len(starts(line)) == 2
