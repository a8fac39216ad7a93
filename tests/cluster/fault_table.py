"""Real trainings on a real SLURM, each hit by a fault: what was lost, what was repeated, how long it took.

    python tests/cluster/fault_table.py FOLDER [--tries N] [FAULT ...]       (make faults)

Each trial is a sweep of one run, a small T5 on two toy tasks; its adapter must equal, to the bit, that of a run
that nothing happened to. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "launchers"))  # sweep_command

from slurm_cluster import SlurmCluster
from sweep_command import CommandLine

from hyperformer.files import read_json

STEPS, LONG, SAVE = 600, 4000, 40
DISK = "disk"  # a small file system, for the fault that fills it
SWEEP = """
renew_report: false
base: {{model_name_or_path: toy, data_source: toy, max_steps: {steps}, save_steps: {save}, eval_steps: 300,
       n_train: 400, n_val: 40, n_test: 40, per_device_train_batch_size: {batch}}}
variants: [hyperformer++]
tasks: [toy-sentiment, toy-paraphrase]
resources: {{gpus_per_node: 0, cpus_per_task: 1, mem_gb: 4, time: {time}{more}}}
"""


@dataclass
class Trial:
    """One sweep of one run, and what was seen of it."""

    line: CommandLine
    cluster: SlurmCluster
    hit: float = 0.0  # when the fault came, seconds since the epoch
    before: int = 0  # the last step seen before the next start

    def strike(self) -> None:
        """The fault comes now."""
        self.hit, self.before = time.time(), self.step()

    def submit(self, more: str = "", time: int = 20, ranks: int = 1, steps: int = STEPS) -> None:
        extra = f", tasks_per_node: {ranks}" if ranks > 1 else ""
        text = SWEEP.format(steps=steps, save=SAVE, batch=8 // ranks, time=time, more=extra + more)
        (self.line.folder / "s.yaml").write_text(text)
        code, out = self.line.run("submit", "s.yaml")
        assert code == 0, out

    @property
    def folder(self) -> Path | None:
        return next(self.line.folder.glob("runs/s/hyperformer++-*"), None)

    def step(self) -> int:
        state = read_json(self.folder / "state.json") if self.folder else None
        return state["step"] if state and state["phase"] == "training" else 0

    def wait(self, what: Callable[[], object], seconds: float = 400) -> None:
        end = time.monotonic() + seconds
        while not what():
            if time.monotonic() > end:
                raise RuntimeError(f"it took too long; {self.line.run('why', 's.yaml')[1]}")
            time.sleep(0.1)

    def job_id(self) -> str:
        (run,) = self.line.status()["runs"].values()
        return str(run["job_id"])

    def call(self, *words: str) -> None:
        done = self.cluster.call(*words)
        assert done.returncode == 0, done.stderr

    def host(self) -> str:
        (run,) = self.line.status()["runs"].values()
        return str(run["host"])

    def done(self) -> bool:
        return bool(self.folder and (self.folder / "result.json").exists())

    def resumed_at(self) -> int | None:
        """The step that the newest attempt goes on from, once it says so."""
        attempts = (
            sorted(self.folder.glob("attempts/*"), key=lambda path: int(path.name)) if self.folder else []
        )
        if len(attempts) < 2 or not (attempts[-1] / "stdout.log").exists():
            return None
        found = re.search(r"resuming from step (\d+)", (attempts[-1] / "stdout.log").read_text())
        return int(found[1]) if found else None

    def first_end(self) -> dict[str, Any]:
        """How the first attempt ended; empty before it has."""
        end = read_json(self.folder / "attempts/1/outcome.json") if self.folder else None
        return end or {}

    def adapter(self) -> bytes:
        assert self.folder
        return (self.folder / "adapter/hyperformer_adapter.safetensors").read_bytes()


def requeued(trial: Trial) -> None:
    trial.submit()
    trial.wait(lambda: trial.step() > 150)
    job_id = trial.job_id()
    trial.strike()
    trial.call("scontrol", "requeue", job_id)


def _preempted(trial: Trial, partition: str, more: str = "") -> None:
    trial.submit(f", partition: {partition}, sbatch: {{nodelist: node4}}{more}")
    trial.wait(lambda: trial.step() > 150)
    urgent = [
        "-p",
        "urgent",
        "-w",
        "node4",
        "--exclusive",
        "--mem=100",
        "-o",
        "/dev/null",
        "--wrap",
        "sleep 1",
    ]
    trial.strike()
    trial.call("sbatch", *urgent)


def preempted_and_requeued(trial: Trial) -> None:
    _preempted(trial, "debug")


def preempted_with_grace(trial: Trial) -> None:
    _preempted(trial, "graceful")


def preempted_and_cancelled(trial: Trial) -> None:
    _preempted(trial, "cancelling")


def no_scontrol_on_the_node(trial: Trial) -> None:
    commands = trial.line.folder / "commands"
    commands.mkdir()
    for name in ("sbatch", "srun", "bash", "date", "env", "hostname", "stat"):
        found = shutil.which(name, path=trial.cluster.environment["PATH"])
        assert found
        (commands / name).symlink_to(found)
    _preempted(trial, "cancelling", f", setup: ['export PATH={commands}']")


def time_limit(trial: Trial) -> None:
    trial.submit(time=1, steps=LONG)
    trial.wait(lambda: trial.done() or trial.first_end())
    trial.strike()


def node_without_power(trial: Trial) -> None:
    trial.submit()
    trial.wait(lambda: trial.step() > 150)
    host = trial.host()
    trial.strike()
    trial.cluster.kill_node(host)
    trial.wait(lambda: trial.resumed_at() is not None)
    trial.cluster.start_node(host)


def killed(trial: Trial) -> None:
    trial.submit()
    trial.wait(lambda: trial.step() > 150)
    _kill_a_rank(trial)


def one_of_two_ranks_killed(trial: Trial) -> None:
    trial.submit(ranks=2)
    trial.wait(lambda: trial.step() > 150)
    _kill_a_rank(trial)


def _kill_a_rank(trial: Trial) -> None:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().split(b"\0")
        if b"launchers.job" in words and str(trial.line.folder).encode() in path.read_bytes():
            environment = (path.parent / "environ").read_bytes()
            if b"SLURM_PROCID=1" in environment or b"SLURM_NTASKS=1" in environment:
                trial.strike()
                os.kill(int(path.parent.name), signal.SIGKILL)
                return
    raise RuntimeError("no rank was found")


def controller_restarted(trial: Trial) -> None:
    trial.submit()
    trial.wait(lambda: trial.step() > 150)
    trial.strike()
    trial.cluster.stop_controller()
    time.sleep(5)
    trial.cluster.start_controller()


def disk_full(trial: Trial) -> None:
    """The sweep's folder is a small file system of its own; it fills up, and is emptied after a while."""
    disk = trial.line.folder.parent / DISK
    (trial.line.folder / "runs").symlink_to(disk)
    trial.submit()
    trial.wait(lambda: trial.step() > 150)
    filler = disk / "filler"
    trial.strike()
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True)
    time.sleep(20)  # nothing can be written, so nothing tells when the run has ended
    filler.unlink()


FAULTS: dict[str, tuple[Callable[[Trial], None], str]] = {
    "requeue by hand": (requeued, "`scontrol requeue`"),
    "preemption, REQUEUE": (preempted_and_requeued, "urgent partition, no grace time"),
    "preemption, grace time": (preempted_with_grace, "urgent partition, GraceTime=20"),
    "preemption, CANCEL": (preempted_and_cancelled, "urgent partition, PreemptMode=CANCEL"),
    "the same, no scontrol": (no_scontrol_on_the_node, "no scontrol on the node's PATH"),
    "time limit": (time_limit, "one minute, for a longer run"),
    "node without power": (node_without_power, "SIGKILL to all that is on the node"),
    "process killed": (killed, "SIGKILL"),
    "one of two ranks killed": (one_of_two_ranks_killed, "SIGKILL to rank 1"),
    "slurmctld restarted": (controller_restarted, "away for 5 seconds"),
    "disk full": (disk_full, "a tmpfs of 400 MB full for 20 seconds"),
}


def run(
    cluster: SlurmCluster, folder: Path, name: str, ranks: int = 1, steps: int = STEPS
) -> tuple[bytes, int | None, float | None]:
    """One trial; the adapter, the steps repeated, and the seconds from the fault to training again."""
    folder.mkdir(parents=True)
    line = CommandLine(folder)
    line.environment |= {key: cluster.environment[key] for key in ("PATH", "SLURM_CONF")}
    line.environment.pop("PYTHONPATH")
    trial = Trial(line, cluster)
    if name not in FAULTS:
        trial.submit(ranks=ranks, steps=steps)
        trial.wait(trial.done)
        return trial.adapter(), None, None
    FAULTS[name][0](trial)
    end = time.monotonic() + 400
    while not trial.done():
        # A run that saves before it ends gets further than where the fault met it.
        trial.before = max(trial.before, int(trial.first_end().get("step", 0)))
        resumed = trial.resumed_at()
        if resumed is not None and trial.step() > resumed:
            break
        time.sleep(0.1)
        if time.monotonic() > end:
            raise RuntimeError(f"{name}: {line.run('why', 's.yaml')[1]}")
    resumed = trial.resumed_at()
    seconds = None if resumed is None else time.time() - trial.hit
    trial.wait(trial.done)
    adapter = trial.adapter()
    return adapter, None if resumed is None else max(0, trial.before - resumed), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("faults", nargs="*", metavar="FAULT", default=list(FAULTS))
    parser.add_argument("--tries", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder = arguments.folder.resolve()
    arguments.folder.mkdir(parents=True)
    cluster = SlurmCluster(arguments.folder / "slurm")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the daemons end with us
    disk = arguments.folder / DISK
    disk.mkdir()
    # Before the nodes are there: each has a view of its own of what is mounted.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400M", "tmpfs", str(disk)], check=True)
    try:
        cluster.start()
        left_alone = {
            ranks: run(cluster, arguments.folder / f"alone-{ranks}", "", ranks)[0] for ranks in (1, 2)
        }
        print("| fault | made by | tries | lost | unequal | steps repeated | seconds to training again |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
        for name in arguments.faults:
            lost = unequal = 0
            how = 2 if "ranks" in name else 1, LONG if name == "time limit" else STEPS
            if how not in left_alone:
                left_alone[how] = run(cluster, arguments.folder / "alone-{}-{}".format(*how), "", *how)[0]
            repeated, seconds = [], []
            for number in range(arguments.tries):
                place = arguments.folder / f"{re.sub('[^a-z]+', '-', name.lower())}-{number}"
                try:
                    adapter, again, took = run(cluster, place, name)
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    lost += 1
                    continue
                unequal += adapter != left_alone[how]
                repeated += [again] if again is not None else []
                seconds += [took] if took is not None else []
            steps = f"{statistics.mean(repeated):.0f}" if repeated else "-"
            took_s = f"{statistics.median(seconds):.0f}" if seconds else "-"
            row = [name, FAULTS[name][1], arguments.tries, lost, unequal, steps, took_s]
            print(f"| {' | '.join(map(str, row))} |", flush=True)
    finally:
        cluster.stop()
        subprocess.run(["umount", "-l", str(disk)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
