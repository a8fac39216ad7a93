"""Several runs side by side in one job: ``pack: k``.

Each is a process of its own with its own log, result and failure; the job's
GPUs and cores are shared out among them. A run that may start again does so
while the others go on. The job goes on until all have ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from launchers.job.finish import settle
from launchers.plan.retry_policy import RetryPolicy
from launchers.slurm.this_job import own_id
from launchers.store.attempts import Attempt, last_attempt, next_attempt
from launchers.store.submissions import QueuedRun, Submission
from launchers.store.sweep_folder import SweepFolder, cancelled_note

_TICK_S = 0.5


@dataclass
class _Going:
    place: int
    entry: QueuedRun
    attempt: Attempt
    process: subprocess.Popen[bytes]


class _Pack:
    """The runs of one job."""

    def __init__(self, record: Path, index: int, submission: Submission) -> None:
        self.record, self.index, self.submission = record, index, submission
        self.sweep = SweepFolder.of_record(record)
        self.entries = submission.tasks[index]
        self.gpus = gpu_shares(os.environ.get("CUDA_VISIBLE_DEVICES", ""), len(self.entries))
        self.threads = max(1, (submission.cpus or len(self.entries)) // len(self.entries))
        self.policy = RetryPolicy.from_json(submission.policy)
        self.stopping = 0

    def work(self) -> None:
        """Run them all, each until it needs nothing more of this job."""
        # In a job that went back into the queue some may have come to their end before.
        going = [self.start(place) for place, entry in enumerate(self.entries) if not self.is_settled(entry)]

        def stop_all(signum: int, frame: FrameType | None) -> None:
            self.stopping = signum

        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, stop_all)
        told = False
        while going:
            time.sleep(_TICK_S)
            if self.stopping and not told:
                told = True
                for one in going:
                    _send(one.process, self.stopping)
            for one in list(going):
                folder = self.sweep.run(one.entry.folder)
                if one.process.poll() is not None:
                    going.remove(one)
                    again = self.settle(one)
                    if again:
                        going.append(again)
                elif cancelled_note(folder).exists():
                    _send(one.process, signal.SIGTERM)  # `cancel` of one of several: the others go on

    def start(self, place: int) -> _Going:
        entry = self.entries[place]
        command = [
            sys.executable,
            "-u",
            "-m",
            "launchers.job",
            str(self.record),
            str(self.index),
            str(place),
        ]
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": self.gpus[place],
            "OMP_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": "passive",
        }
        attempt = next_attempt(self.sweep.run(entry.folder), entry.attempt)
        attempt.folder.mkdir(parents=True, exist_ok=True)
        with attempt.logs[0].open("ab") as out, attempt.logs[1].open("ab") as errors:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=errors)
        return _Going(place, entry, attempt, process)

    def is_settled(self, entry: QueuedRun) -> bool:
        """Whether an earlier start of this job brought the run to its end."""
        last = last_attempt(self.sweep.run(entry.folder), entry.attempt)
        outcome = last.read_outcome() if last else None
        return outcome is not None and (outcome.status == "done" or outcome.then == "end")

    def settle(self, one: _Going) -> _Going | None:
        """After a run's process has ended: start it again if its failure's kind asks for that."""
        outcome = one.attempt.read_outcome()
        if outcome and outcome.then:  # it did not even start: cancelled, or held
            return None
        decision = settle(
            self.sweep.run(one.entry.folder), one.attempt, self.policy, since=one.entry.attempt,
            exit_code=one.process.returncode,
            job_log=self.sweep.job_logs(own_id())[1],
        )  # fmt: skip
        print(f"{one.entry.name}: {decision.why}: {decision.action}", flush=True)
        return self.start(one.place) if decision.action == "again" and not self.stopping else None


def run_side_by_side(record: Path, index: int, submission: Submission) -> None:
    """Run the task's runs, each in its process, and wait for all of them.

    A failed run fails alone: its own files tell it, and the job ends well.
    """
    _Pack(record, index, submission).work()


def gpu_shares(visible: str, count: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each of `count` runs; with fewer GPUs than runs some share one.

    >>> gpu_shares("0,1", 4)
    ['0', '1', '0', '1']
    >>> gpu_shares("", 2)
    ['', '']
    """
    gpus = [name for name in visible.split(",") if name]
    return [gpus[place % len(gpus)] if gpus else "" for place in range(count)]


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        process.send_signal(number)
