"""What a cluster does to a run, made for real; each sweep ends by itself, or says why it cannot."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from slurm_cluster import SlurmCluster
from small_sweep import slurm, wait_for, write
from sweep_command import TOY, CommandLine

SLOW = TOY.replace("max_steps: 3", "max_steps: 30").replace("0.01", "0.3")
SMALL = "gpus_per_node: 0, cpus_per_task: 1, mem_gb: 0.5, time: 5"
NAME = "hyperformer++-seed{}"


def outcomes(line: CommandLine, name: str = "hyperformer++") -> list[dict[str, Any]]:
    """How each attempt of a run ended, oldest first."""
    folders = line.folder.glob(f"runs/s/{name}-*/attempts/*")
    files = [folder / "outcome.json" for folder in sorted(folders, key=lambda folder: int(folder.name))]
    return [json.loads(path.read_text()) for path in files if path.exists()]


def step_of(line: CommandLine) -> int:
    files = list(line.folder.glob("runs/s/*/checkpoints/step"))
    return int(files[0].read_text() or 0) if files else -1


def wait_until(what: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)


def started_at(line: CommandLine) -> int:
    (result,) = line.folder.glob("runs/s/*/result.json")
    return int(json.loads(result.read_text())["started_at_step"])


def running(line: CommandLine) -> str:
    """Wait until the one run of the sweep trains; returns its job's id."""
    wait_until(lambda: step_of(line) >= 2)
    (run,) = line.status()["runs"].values()
    return str(run["job_id"])


def test_each_kind_of_failure_has_its_end(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1, 81, 82, 83, 84, 85, 86, 87")
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: sum(counts.get(state, 0) for state in ("done", "failed")) == 8)
    assert line.status()["counts"] == {"done": 4, "failed": 4}
    kinds = {
        seed: [(end.get("kind"), end.get("then")) for end in outcomes(line, NAME.format(seed))]
        for seed in range(81, 88)
    }
    done = (None, None)
    assert kinds[81] == [("out_of_gpu_memory", "again")] * 2 + [done]
    assert kinds[82] == [("collective", "again")] * 2 + [done]
    assert kinds[83] == [("hang", "again"), ("hang", "end")]
    assert kinds[84] == [("diverged", "end")]  # it has no checkpoint to step back to
    assert kinds[85] == [("killed", "again"), done]
    assert kinds[86] == [("disk_full", "again"), ("disk_full", "end")]
    assert kinds[87] == [("out_of_memory", "end")]
    _, why = line.run("why", "s.yaml")
    assert "nothing moved for hang_minutes; it was started again for this 1 time already" in why, why
    _, logs = line.run("logs", "s.yaml", NAME.format(82))
    assert "collective" not in logs and "start at step 2" in logs, logs


@pytest.mark.slow
def test_packed_runs_start_again_alone(slurm_line: CommandLine) -> None:
    """One that fails for good, one that is killed, and one that goes on when the job is back from the queue."""
    line = slurm_line
    base = TOY.replace("max_steps: 3", "max_steps: 40").replace("0.01", "0.3")
    write(line, "13, 85, 1", base, f"{SMALL}, pack: 3")
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts.get("failed") == 1)
    wait_until(lambda: len(outcomes(line, NAME.format(85))) == 1)
    runs = line.folder / "runs/s"
    wait_until(
        lambda: [int(path.read_text() or 0) > 3 for path in runs.glob("*/checkpoints/step")].count(True) == 2
    )
    slurm(line, "scontrol", "requeue", line.status()["runs"][NAME.format(1)]["job_id"])
    wait_for(line, lambda counts: counts == {"done": 2, "failed": 1})
    assert [end.get("kind") for end in outcomes(line, NAME.format(13))] == ["data"]
    assert [end.get("then") for end in outcomes(line, NAME.format(85))] == ["again", "requeue", None]
    assert [end.get("then") for end in outcomes(line, NAME.format(1))] == ["requeue", None]


def test_sweep_is_held_when_runs_fail_alike(slurm_line: CommandLine) -> None:
    line = slurm_line
    path = write(line, "13")
    path.write_text(
        path.read_text().replace("[13]", "[13], learning_rate: [0.001, 0.002, 0.003, 0.004, 0.005]")
    )
    assert line.run("s.yaml", "--max-parallel", "1")[0] == 0
    wait_for(line, lambda counts: counts == {"failed": 3, "stopped": 2})
    _, why = line.run("why", "s.yaml")
    assert (
        "lr0.004, hyperformer++-lr0.005 (stopped): it stopped: held: 3 runs failed alike: DataError: row 7"
        in why
    )
    _, out = line.run("submit", "s.yaml")
    assert "the sweep was held" in out and "5 of 5 runs to start" in out
    assert line.run("cancel", "s.yaml", "-y")[0] == 0


@pytest.mark.slow
def test_time_limit(slurm_line: CommandLine) -> None:
    """The run stops ahead of the limit by itself, and goes back into the queue."""
    line = slurm_line
    slow = TOY.replace("max_steps: 3", "max_steps: 52").replace("0.01", "1")
    write(line, "1", slow, SMALL.replace("time: 5", "time: 1"))
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"done": 1}, seconds=180)
    kinds = [end.get("kind") for end in outcomes(line)]
    assert set(kinds[:-1]) == {"time_limit"} and kinds[-1] is None
    assert started_at(line) > 20


@pytest.mark.slow
def test_requeue_by_hand(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1", SLOW)
    assert line.run("s.yaml")[0] == 0
    job = running(line)
    slurm(line, "scontrol", "requeuehold", job)
    wait_for(line, lambda counts: counts == {"pending": 1})
    wait_until(lambda: f"holds it, as after a failed prolog; when the cause is gone: `scontrol release {job}`" in
               line.run("why", "s.yaml")[1])  # fmt: skip
    slurm(line, "scontrol", "release", job)
    wait_for(line, lambda counts: counts == {"done": 1})
    assert started_at(line) >= 2 and outcomes(line)[0]["kind"] == "requeued"


def without_scontrol(line: CommandLine) -> str:
    """Set-up after which a job finds the commands that it needs, and no scontrol."""
    commands = line.folder / "commands"
    commands.mkdir()
    for name in ("sbatch", "srun", "bash", "date", "env", "hostname", "dirname", "stat"):
        found = shutil.which(name, path=line.environment["PATH"])
        assert found is not None
        (commands / name).symlink_to(found)
    return f", setup: ['export PATH={commands}']"


@pytest.mark.slow
def test_preemption_in_every_mode(slurm_line: CommandLine) -> None:
    """At once, each on a node of its own: requeued, with a grace time, cancelled, and that without scontrol."""
    modes = {"node1": "debug", "node2": "graceful", "node3": "cancelling", "node4": "cancelling"}
    lines = {}
    for node, partition in modes.items():
        line = lines[node] = copy.copy(slurm_line)
        line.folder = slurm_line.folder / node
        line.folder.mkdir()
        more = without_scontrol(line) if node == "node4" else ""
        slow = SLOW.replace("max_steps: 30", "max_steps: 100")  # still running when the last of them is
        write(line, "1", slow, f"{SMALL}, partition: {partition}, sbatch: {{nodelist: {node}}}{more}")
        assert line.run("s.yaml")[0] == 0
    for line in lines.values():
        running(line)
    for node in modes:
        urgent = [
            "-p",
            "urgent",
            "-w",
            node,
            "--exclusive",
            "--mem=100",
            "-o",
            "/dev/null",
            "--wrap",
            "sleep 2",
        ]
        slurm(slurm_line, "sbatch", *urgent)
    for node, line in lines.items():
        wait_for(line, lambda counts: counts == {"done": 1}, seconds=120)
        assert started_at(line) >= 2, node
        assert [end.get("kind") for end in outcomes(line)] == ["preempted", None], node
    (moved,) = lines["node4"].folder.glob("runs/s/submissions/1.moved/0.json")
    (run,) = lines["node4"].status()["runs"].values()
    assert run["job_id"] == json.loads(moved.read_text())["job_id"]


@pytest.mark.slow
def test_scancel_of_packed_runs_and_strict_set_up(slurm_line: CommandLine) -> None:
    """The user's will for all of a pack; and `set -e` in the set-up leaves us our word after the run."""
    line = slurm_line
    write(line, "1, 2", SLOW, f"{SMALL}, pack: 2, setup: ['set -eu']")
    assert line.run("s.yaml")[0] == 0
    runs = line.folder / "runs/s"
    wait_until(lambda: len(list(runs.glob("*/checkpoints/step"))) == 2)
    slurm(line, "scancel", line.status()["runs"][NAME.format(1)]["job_id"])
    wait_until(
        lambda: (
            [end.get("kind") for seed in (1, 2) for end in outcomes(line, NAME.format(seed))]
            == ["cancelled"] * 2
        )
    )
    time.sleep(3)  # a requeue would show
    wait_for(line, lambda counts: set(counts) <= {"stopped", "cancelled"})
    write(line, "85", resources=f"{SMALL}, setup: ['set -eu']", name="strict")
    assert line.run("strict.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"done": 1}, sweep="strict.yaml")


def test_scancel_is_the_users_will(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1", SLOW)
    assert line.run("s.yaml")[0] == 0
    slurm(line, "scancel", running(line))
    wait_until(lambda: outcomes(line) and "kind" in outcomes(line)[0])
    assert outcomes(line)[0]["kind"] == "cancelled"
    time.sleep(3)  # a requeue would show
    wait_for(line, lambda counts: counts in ({"stopped": 1}, {"cancelled": 1}))
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"done": 1})
    assert started_at(line) >= 2


@pytest.mark.slow
def test_node_that_fails(slurm_cluster: SlurmCluster, slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1", SLOW, f"{SMALL}, exclude: 'node[1-2]'")
    assert line.run("s.yaml")[0] == 0
    running(line)
    (run,) = line.status()["runs"].values()
    slurm_cluster.kill_node(run["host"])
    try:
        wait_for(line, lambda counts: counts == {"done": 1}, seconds=120)
    finally:
        slurm_cluster.start_node(run["host"])
    assert started_at(line) >= 2
    assert [end.get("kind") for end in outcomes(line)] == ["node_failure", None]


def test_silent_run_is_shown_as_lost(slurm_line: CommandLine) -> None:
    """A job that no longer moves, on a node that SLURM believes to be well."""
    line = slurm_line
    # It must not end before it is looked at.
    write(line, "1", SLOW.replace("max_steps: 30", "max_steps: 500"))
    assert line.run("s.yaml")[0] == 0
    running(line)
    (folder,) = line.folder.glob("runs/s/hyperformer++-*")
    (started,) = folder.glob("attempts/1/started.json")
    long_ago = time.time() - 3600
    started.write_text(json.dumps({**json.loads(started.read_text()), "started": long_ago}))
    (folder / "heartbeat").touch()
    assert line.status()["counts"] == {"running": 1}
    os.utime(folder / "heartbeat", (long_ago, long_ago))
    (run,) = line.status()["runs"].values()
    assert run["state"] == "lost" and "no sign of life for 60 minutes" in run["detail"], run
    assert "0 of 1 runs to start" in line.run("submit", "s.yaml")[1]  # SLURM still runs it
    assert "cancel hyperformer++" in line.run("cancel", "s.yaml", "-y")[1]
    wait_for(line, lambda counts: counts == {"cancelled": 1})


@pytest.mark.slow
def test_log_folder_that_is_gone(slurm_line: CommandLine) -> None:
    line = slurm_line
    write(line, "1", SLOW)
    assert line.run("s.yaml")[0] == 0
    running(line)
    shutil.rmtree(line.folder / "runs/s/submitit")
    wait_for(line, lambda counts: counts == {"done": 1})


@pytest.mark.slow
def test_requeued_before_the_run_begins(slurm_line: CommandLine) -> None:
    """No failed set-up, and nothing that holds the sweep: SLURM starts the job again."""
    line = slurm_line
    # The job asks for its own requeue, and continues as if it did not know.
    task = '"$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID"'
    early = f'[ -n "$SLURM_RESTART_COUNT" ] || {{ trap "" TERM; scontrol requeue {task}; }}'
    write(line, "1, 2, 3, 4", resources=f"{SMALL}, setup: [{json.dumps(early)}]")
    assert line.run("s.yaml")[0] == 0
    wait_for(line, lambda counts: counts == {"done": 4}, seconds=120)
    kinds = [end.get("kind") for seed in range(1, 5) for end in outcomes(line, NAME.format(seed))]
    assert set(kinds) == {None, "requeued"} and kinds.count(None) == 4, kinds
    assert not (line.folder / "runs/s/held.json").exists() and not list(
        line.folder.glob("runs/s/failures/*/*")
    )


def test_a_runs_folder_that_the_nodes_do_not_see(
    slurm_line: CommandLine, accounting_line: CommandLine
) -> None:
    """The cause is told, by squeue and by sacct: the nodes are namespaces that see no later mounts."""
    lines = [slurm_line, copy.copy(accounting_line)]
    lines[1].folder = accounting_line.folder / "accounts"
    lines[1].folder.mkdir()
    for line in lines:
        write(line, "1")
        disk = line.folder / "runs"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], check=True)
    try:
        for line in lines:
            assert line.run("s.yaml")[0] == 0
        for line in lines:
            wait_for(line, lambda counts: counts == {"failed": 1})
            _, why = line.run("why", "s.yaml")
            assert (
                "SLURM says FAILED; the node could not start it: it does not see the sweep's folder" in why
            ), why
            assert "choose a --runs-dir that all nodes share" in why
    finally:
        for line in lines:
            subprocess.run(["umount", "--lazy", str(line.folder / "runs")], check=True)
