"""Several runs side by side in one job: ``pack: k``.

Each is a process of its own with its own log, result and failure; the job's
GPUs and cores are shared out among them. A run that may start again does so
while the others continue. The job lasts until all have ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from types import FrameType

from launchers.job.finish import End, settle
from launchers.slurm.this_job import JobTask, own_id
from launchers.store.attempts import Attempt, last_attempt, next_attempt
from launchers.store.submissions import QueuedRun
from launchers.store.sweep_folder import cancelled_note

_TICK_S = 0.5


@dataclass
class _Started:
    """A run in its process; `place`: its place in the pack."""

    place: int
    run: QueuedRun
    attempt: Attempt
    process: subprocess.Popen[bytes]
    is_stopping: bool = False

    def stop(self, number: int) -> None:
        """Ask it once to save and end."""
        if not self.is_stopping:
            self.is_stopping = True
            self.process.send_signal(number)


class _Pack:
    """The runs of one job."""

    def __init__(self, task: JobTask) -> None:
        self.task = task
        count = len(task.runs)
        self.gpus = gpu_shares(os.environ.get("CUDA_VISIBLE_DEVICES", ""), count)
        self.threads = max(1, (task.submission.cpus or count) // count)
        self.signal = 0

    def work(self) -> None:
        """Run them all, each until it needs nothing more of this job."""
        # In a job that was requeued some may have ended before.
        going = [self.start(place) for place, run in enumerate(self.task.runs) if not self.has_ended(run)]

        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._stop)
        while going:
            time.sleep(_TICK_S)
            ended = [one for one in going if one.process.poll() is not None]
            going = [one for one in going if one not in ended]
            going += filter(None, map(self.settle, ended))
            for one in going:
                if cancelled_note(self.task.sweep.run(one.run.folder)).exists():
                    one.stop(signal.SIGTERM)  # `cancel` of one of several: the others continue
                elif self.signal:
                    one.stop(self.signal)

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self.signal = signum

    def start(self, place: int) -> _Started:
        run = self.task.runs[place]
        arguments = [str(self.task.record), str(self.task.index), str(place)]
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": self.gpus[place],
            "OMP_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": "passive",
        }
        attempt = next_attempt(self.task.sweep.run(run.folder), run.attempt)
        attempt.folder.mkdir(parents=True, exist_ok=True)
        with attempt.logs[0].open("ab") as out, attempt.logs[1].open("ab") as errors:
            command = [sys.executable, "-u", "-m", "launchers.job", *arguments]
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=errors)
        return _Started(place, run, attempt, process)

    def has_ended(self, run: QueuedRun) -> bool:
        """Whether an earlier start of this job brought the run to its end."""
        last = last_attempt(self.task.sweep.run(run.folder), run.attempt)
        outcome = last.read_outcome() if last else None
        return outcome is not None and (outcome.status == "done" or outcome.then == "end")

    def settle(self, one: _Started) -> _Started | None:
        """After a run's process has ended: start it again if its failure's kind asks for that."""
        job_log = self.task.sweep.job_logs(own_id())[1]
        step = settle(End(one.attempt, one.run.attempt, one.process.returncode, job_log), self.task.policy)
        print(f"{one.run.name}: {step.why}: {step.action}", flush=True)
        return self.start(one.place) if step.action == "again" and not self.signal else None


def run_side_by_side(task: JobTask) -> None:
    """Run the task's runs, each in its process, and wait for all of them.

    A failed run fails alone: its own files tell it, and the job ends well.
    """
    _Pack(task).work()


def gpu_shares(visible: str, count: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each of `count` runs; with fewer GPUs than runs some share one.

    >>> gpu_shares("0,1", 4)
    ['0', '1', '0', '1']
    >>> gpu_shares("", 2)
    ['', '']
    """
    gpus = [name for name in visible.split(",") if name]
    return [gpus[place % len(gpus)] if gpus else "" for place in range(count)]
