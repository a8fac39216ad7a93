"""Every command on a real SLURM."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster
from small_sweep import SLOW, SMALL, slurm, wait_for, write
from sweep_command import SWEEP, TOY, CommandLine


def test_dry_run_shows_the_very_file_also_with_odd_folder_names(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2", resources=f"{SMALL}, setup: ['echo \"set $((1+1)) up\"'], sbatch: {{comment: a b}}")
    odd = ["--runs-dir", "my 'runs' $(x) \"y\""]
    code, out = line.run("s.yaml", "-n", *odd)
    assert code == 0 and "nothing was done" in out and "cost estimate: 2 runs in 2 jobs" in out, out
    assert not (line.folder / odd[1]).exists()
    shown = out.split("--- sbatch file 1 of 1\n")[1].split("---\n")[0]
    assert line.run("s.yaml", *odd)[0] == 0
    (submitted,) = (line.folder / odd[1] / "s/submitit").glob("*_submission.sh")
    assert submitted.read_text() == shown
    assert line.run("status", "s.yaml", "-w", *odd)[0] == 0
    code, out = line.run("logs", "s.yaml", "seed=2", *odd)
    assert "start at step 0" in out and "hyperformer++-seed2" in out and "seed1" not in out
    assert {entry.name for entry in line.folder.iterdir()} == {"s.yaml", odd[1]}
    # The job ran the snapshot, and the snapshot says what it is.
    (code_folder,) = (line.folder / odd[1] / "s/code").iterdir()
    assert "torch==" in (code_folder / ".snapshot/environment.txt").read_text()
    assert f"/s/code/{code_folder.name}" in shown


def test_bill_is_confirmed_and_profile_is_written(slurm_line: CommandLine) -> None:
    line = slurm_line
    code, out = line.run("clusters", "init", "here")
    assert code == 0 and "partition: debug" in out and "4 nodes of 4 GPUs, 16 cores" in out
    assert line.run("clusters", "init", "here")[0] == 2  # nothing is overwritten
    path = line.folder / "clusters/here.yaml"
    path.write_text(path.read_text().replace("confirm_above: 100", "confirm_above: 1"))
    write(line, "1, 2", resources="time: 60, mem_gb: 1")
    for no_terminal in ("</dev/null", "<&-"):
        process = subprocess.run(
            ["bash", "-c", f"{sys.executable} {SWEEP} s.yaml --cluster here {no_terminal}"],
            cwd=line.folder, env=line.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert process.returncode == 2, process.stderr
        assert (
            process.stderr.splitlines(keepends=True)[-1]
            == "error: 2 GPU-hours are above confirm_above (1); say -y to submit them\n"
        )
    assert not list(line.folder.glob("runs/s/submissions"))
    code, out = line.run("s.yaml", "--cluster", "here", "-y")
    assert code == 0 and "cost estimate: 2 runs in 2 jobs, 2 GPU-hours at most; SLURM expects" in out
    assert line.run("status", "s.yaml", "-w")[0] == 0
    (log,) = line.folder.glob("runs/s/*seed1*/attempts/1/stdout.log")
    assert "gpus 0" in log.read_text()  # its own GPU of the node
    code, out = line.run("s.yaml")  # the profile of last time
    assert code == 0 and "0 of 2 runs to start, 2 done" in out


def test_packed_runs_share_a_job_and_fail_alone(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 13, 14, 16", resources="gpus_per_node: 2, cpus_per_task: 4, mem_gb: 1, time: 5, pack: 4")
    code, out = line.run("s.yaml")
    assert code == 0 and "cost estimate: 4 runs in 1 job" in out
    wait_for(line, lambda counts: counts == {"done": 2, "failed": 2})
    runs = line.status()["runs"]
    assert len({run["job_id"] for run in runs.values()}) == 1
    assert runs["hyperformer++-seed13"]["detail"] == "DataError: row 7 has no label"
    assert runs["hyperformer++-seed14"]["detail"].startswith("killed: ended by SIGKILL")
    gpus = [
        re.findall(r"gpus (\S+)", p.read_text())[0]
        for p in line.folder.glob("runs/s/*/attempts/1/stdout.log")
    ]
    assert sorted(gpus) == ["0", "0", "1", "1"]


def test_cancel_one_of_a_pack(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2", SLOW, f"{SMALL}, pack: 2")
    assert line.run("s.yaml")[0] == 0
    steps = line.folder / "runs/s"
    wait_for(line, lambda counts: len(list(steps.glob("*/checkpoints/step"))) == 2)
    assert "cancel hyperformer++-seed2 (running)" in line.run("cancel", "s.yaml", "seed=2")[1]
    wait_for(line, lambda counts: counts == {"running": 1, "cancelled": 1})
    time.sleep(1)
    assert line.status()["runs"]["hyperformer++-seed1"]["state"] == "running"
    line.run("cancel", "s.yaml")
    wait_for(line, lambda counts: counts == {"cancelled": 2})


def test_why_retry_and_a_set_up_that_fails(slurm_line: CommandLine) -> None:
    line = slurm_line
    path = write(
        line, "1, 13, 14, 15", resources=f"{SMALL}, runs: {{'*seed1': {{setup: 'no-such-module load'}}}}"
    )
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"failed": 4})
    code, out = line.run("why", "s.yaml")
    assert (
        "hyperformer++-seed1 (FAILED): SLURM says FAILED; last line of its log: set-up failed: no-such" in out
    )
    assert "hyperformer++-seed13, hyperformer++-seed15 (FAILED): DataError: row 7 has no label; its" in out
    assert "about to be killed" in out
    path.write_text(path.read_text().replace("no-such-module load", "true"))
    code, out = line.run("retry", "s.yaml", "--oom")
    assert "nothing to retry" in out
    code, out = line.run("retry", "s.yaml", "--failed", "seed=15", "-n")
    assert (
        "would retry hyperformer++-seed15 (FAILED)" in out
        and "1 of 4 runs to start" in out
        and "nothing was done" in out
    )
    code, out = line.run("retry", "s.yaml", "seed=15", "hyperformer++-seed1*")
    assert code == 0 and "1 of 4 runs to start" in out, out
    wait_for(line, lambda counts: counts == {"done": 1, "failed": 3})
    code, out = line.run("why", "s.yaml")
    assert "the 3 failed runs share no setting" in out


def test_two_people_at_once_start_each_run_once(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2, 3, 4")
    processes = [line.start("s.yaml") for _ in range(3)]
    outs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outs
    assert sorted(re.findall(r"(\d) of 4 runs to start", "".join(outs))) == ["0", "0", "4"]
    assert len(list((line.folder / "runs/s/submissions").iterdir())) == 1
    wait_for(line, lambda counts: counts == {"done": 4})
    assert {run["attempt"] for run in line.status()["runs"].values()} == {1}


def test_submit_from_inside_a_job(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1")
    outer = ["srun", "--ntasks=2", "--gpus-per-node=2", "--mem=2000", "--time=3", "--chdir", str(line.folder)]
    inner = f'[ "$SLURM_PROCID" != 0 ] || exec {sys.executable} {SWEEP} s.yaml'
    out = slurm(line, *outer, "bash", "-c", inner)
    assert "1 of 1 runs to start" in out
    wait_for(line, lambda counts: counts == {"done": 1})
    (log,) = line.folder.glob("runs/s/submitit/*_log.out")  # one rank
    (own,) = line.folder.glob("runs/s/hyper*/attempts/1/stdout.log")
    assert "attempt 1" in log.read_text() and "gpus None" in own.read_text()


@pytest.mark.slow
def test_controller_restarted_in_the_middle(slurm_cluster: SlurmCluster, slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1", TOY.replace("max_steps: 3", "max_steps: 60").replace("0.01", "0.3"))
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"running": 1})
    slurm_cluster.stop_controller()
    try:
        code, out = line.run("status", "s.yaml")
        assert (
            code == 0 and "SLURM does not answer" in out and "the last ones known, less than a minute" in out
        )
        assert "1 running" in out
        code, out = line.run("s.yaml")
        assert code == 0 and "0 of 1 runs to start, 1 running" in out
    finally:
        slurm_cluster.start_controller()
    wait_for(line, lambda counts: counts == {"done": 1})
    assert line.status()["runs"]["hyperformer++"]["attempt"] == 1


@pytest.mark.slow
def test_two_nodes_train_one_run(slurm_cluster: SlurmCluster, slurm_line: CommandLine) -> None:
    line = slurm_line
    assert slurm_cluster.namespaces, "nodes need host names of their own"
    line.environment["PYTHONPATH"] = ""  # the real run
    base = (
        "{model_name_or_path: toy, data_source: toy, max_steps: 3, warmup_steps: 0, eval_steps: 3, n_train: 32, "
        "n_val: 8, n_test: 8, per_device_train_batch_size: 4, max_source_length: 16, max_target_length: 4, "
        "zero_stage: 1}"
    )
    write(
        line, "1", base, "nodes: 2, gpus_per_node: 0, tasks_per_node: 1, cpus_per_task: 1, mem_gb: 4, time: 5"
    )
    code, out = line.run("s.yaml")
    assert code == 0, out
    wait_for(line, lambda counts: "running" not in counts and "pending" not in counts, seconds=150)
    code, out = line.run("logs", "s.yaml", "*", "--rank", "all")
    assert line.status()["counts"] == {"done": 1}, out
    assert "rank 0 stdout.log" in out and "rank 1 stdout.log" in out
    (run,) = line.status()["runs"].values()
    nodes = slurm(line, "squeue", "-h", "--states=all", "-j", run["job_id"], "-o", "%D")
    assert nodes.strip() == "2" and "2 x cpu" in out


def test_from_python(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 2")
    code = (
        "import time\nfrom launchers.api import Sweep\nsweep = Sweep.load('s.yaml')\n"
        "print(len(sweep.dry_run().texts), len(sweep.submit().job_ids), sweep.submit().started)\n"
        "while any(s.state in ('pending', 'running', 'unknown') for s in sweep.statuses()): time.sleep(0.5)\n"
        "status = sweep.status()\n"
        "print(len(status), {s.display_state for s in sweep.statuses()})\n"
    )
    root = str(SWEEP.parent.parent)
    environment = {**line.environment, "PYTHONPATH": f"{line.environment['PYTHONPATH']}:{root}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=line.folder, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "1 1 []\n2 {'COMPLETED'}\n", done.stderr


def test_a_cancel_that_slurm_refuses_does_not_take_effect(slurm_line: CommandLine) -> None:
    """Another user's jobs continue, and none of them is marked."""
    line = slurm_line
    write(line, "1, 2", base=SLOW)
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"running": 2})
    before = line.environment["PATH"]
    folder = line.folder / "bin"
    folder.mkdir()
    real = shutil.which("scancel", path=before)
    # The other user finds slurm.conf, though the folder of the tests is ours alone.
    may_read = "--inh-caps=+dac_override --ambient-caps=+dac_override"
    nobody = f"setpriv --reuid=65534 --regid=65534 --clear-groups {may_read}"
    (folder / "scancel").write_text(f'#!/bin/sh\nexec {nobody} {real} "$@"\n')
    (folder / "scancel").chmod(0o755)
    line.environment["PATH"] = f"{folder}:{before}"
    code, out = line.run("cancel", "s.yaml", "-y")
    assert code == 2 and "2 of 2 runs were not cancelled" in out, out
    assert out.count("SLURM refuses: Access/permission denied") == 2
    assert not list(line.folder.glob("runs/s/*/cancelled.json"))
    line.environment["PATH"] = before
    assert line.status()["counts"] == {"running": 2}
    assert line.run("cancel", "s.yaml", "-y")[0] == 0
    wait_for(line, lambda counts: counts == {"cancelled": 2})


@pytest.mark.slow
def test_a_job_leaves_a_run_that_somebody_trains(slurm_line: CommandLine) -> None:
    """Whoever it is: the lock in the run's folder says so. The sweep is not held for it."""
    line = slurm_line
    write(line, "1", resources=f"{SMALL}, sbatch: {{hold: true}}")
    assert line.run("s.yaml")[0] == 0
    run = line.status()["runs"]["hyperformer++"]
    folder = Path(run["folder"])
    folder.mkdir()
    code = f"from hyperformer.run_files.run_lock import hold\nwith hold({str(folder)!r}): print(flush=True); input()"
    trainer = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert trainer.stdout is not None and trainer.stdout.readline() == "\n"
    slurm(line, "scontrol", "release", run["job_id"])
    end = time.monotonic() + 300
    while not (folder / "attempts/1/outcome.json").exists():
        assert time.monotonic() < end
        time.sleep(0.2)
    outcome = json.loads((folder / "attempts/1/outcome.json").read_text())
    assert (outcome["kind"], outcome["then"]) == ("in_use", "end")
    run = line.status()["runs"]["hyperformer++"]
    assert run["state"] == "running" and f"trained by process {trainer.pid}" in run["detail"]
    assert "0 of 1 runs to start, 1 running" in line.run("s.yaml")[1]
    trainer.communicate()
    wait_for(line, lambda counts: counts == {"stopped": 1})
    assert not (folder.parent / "held.json").exists()
    write(line, "1")
    assert "1 of 1 runs to start" in line.run("s.yaml")[1]
    wait_for(line, lambda counts: counts == {"done": 1})
