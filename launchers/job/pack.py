"""Several runs side by side in one job: ``pack: k``.

Each is a process of its own with its own log, result and failure; the job's
GPUs and cores are shared out among them. A run that may start again does so
while the others continue. The job lasts until all have ended.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from types import FrameType

from launchers.job.finish import EndedAttempt, finish_attempt
from launchers.job.run_process import RunProcess, RunStarter
from launchers.slurm.this_job import JobTask, own_id
from launchers.store.attempts import Attempt, last_attempt, next_attempt
from launchers.store.submissions import QueuedRun
from launchers.store.sweep_folder import cancelled_note

_TICK_S = 0.5


@dataclass
class _Started:
    """A run in its process; `slot`: its number in the pack."""

    slot: int
    run: QueuedRun
    attempt: Attempt
    process: RunProcess
    is_stopping: bool = False

    def stop(self, number: int) -> None:
        """Ask it once to save and end."""
        if not self.is_stopping:
            self.is_stopping = True
            self.process.send_signal(number)


class Pack:
    """The runs of one job. A failed run fails alone: its own files tell it, and the job ends well."""

    def __init__(self, task: JobTask) -> None:
        self.task = task
        count = len(task.runs)
        self.gpus = assign_gpus(os.environ.get("CUDA_VISIBLE_DEVICES", ""), count)
        variables = {
            "CUDA_VISIBLE_DEVICES": ",".join(dict.fromkeys(self.gpus)),
            "OMP_NUM_THREADS": str(max(1, (task.submission.cpus or count) // count)),
            "OMP_WAIT_POLICY": "passive",
        }
        self.starter = RunStarter(variables, count, own_sessions=False)
        self.signal = 0

    def run_all(self) -> None:
        """Run them, each in its process and until it needs nothing more of this job."""
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._stop)
        # In a job that was requeued some may have ended before.
        running = [self.start(slot) for slot, run in enumerate(self.task.runs) if not self.has_ended(run)]
        while running:
            time.sleep(_TICK_S)
            ended = [one for one in running if one.process.poll() is not None]
            running = [one for one in running if one not in ended]
            running += filter(None, map(self.finish_attempt, ended))
            for one in running:
                if cancelled_note(self.task.sweep.run(one.run.folder)).exists():
                    one.stop(signal.SIGTERM)  # `cancel` of one of several: the others continue
                elif self.signal:
                    one.stop(self.signal)
        self.starter.close()

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self.signal = signum

    def start(self, slot: int) -> _Started:
        run = self.task.runs[slot]
        arguments = [str(self.task.record), str(self.task.index), str(slot)]
        attempt = next_attempt(self.task.sweep.run(run.folder), run.attempt)
        attempt.folder.mkdir(parents=True, exist_ok=True)
        return _Started(slot, run, attempt, self.starter.start(arguments, self.gpus[slot], attempt.logs))

    def has_ended(self, run: QueuedRun) -> bool:
        """Whether an earlier start of this job brought the run to its end."""
        last = last_attempt(self.task.sweep.run(run.folder), run.attempt)
        outcome = last.read_outcome() if last else None
        return outcome is not None and (outcome.status == "done" or outcome.then == "end")

    def finish_attempt(self, one: _Started) -> _Started | None:
        """After a run's process has ended: start it again if its failure's kind asks for that."""
        job_log = self.task.sweep.job_logs(own_id())[1]
        step = finish_attempt(
            EndedAttempt(one.attempt, one.run.attempt, one.process.returncode, job_log), self.task.policy
        )
        print(f"{one.run.name}: {step.why}: {step.action}", flush=True)
        return self.start(one.slot) if step.action == "again" and not self.signal else None


def assign_gpus(visible: str, count: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each of `count` runs; with fewer GPUs than runs some share one.

    >>> gpu_shares("0,1", 4)
    ['0', '1', '0', '1']
    >>> gpu_shares("", 2)
    ['', '']
    """
    gpus = [name for name in visible.split(",") if name]
    return [gpus[slot % len(gpus)] if gpus else "" for slot in range(count)]
