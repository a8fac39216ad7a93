"""Runs on this machine: a queue in the foreground, so many at a time as there are places on GPUs, or cores."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from hyperformer.signal_handlers import signals_deferred
from launchers.job.finish import EndedAttempt, finish_attempt
from launchers.job.local_run import LocalRun, LocalStarter
from launchers.job.page_renewal import PageRenewal
from launchers.job.start_checks import why_not_to_start
from launchers.plan.plan import Run
from launchers.status.polling import FILES_S, PollInterval
from launchers.status.read_status import read_local_status
from launchers.status.run_status import RunStatus
from launchers.store.attempts import Outcome, last_attempt
from launchers.store.ledger import Ledger
from launchers.store.records import try_record
from launchers.store.sweep_folder import cancelled_note
from launchers.store.waiting_runs import QueueFile
from launchers.submit.race import race_gate
from launchers.submit.race.standings import read_standings

_TICK_S = 0.3


class ProgressCallback(Protocol):
    """Called to show the queue's progress."""

    def update(self, statuses: Sequence[RunStatus], message: str = "") -> None: ...


def cpu_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. Imports no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        command = ["nvidia-smi", "-L"]
        listing = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listing.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))] if listing.returncode == 0 else []


def free_gpu(pack: int, held: Mapping[str, Sequence[int]]) -> str | None:
    """The GPU with the fewest runs that has a place for one more; None: there is no place now.

    Args:
        pack: runs that may share a GPU with the new one, itself included.
        held: by GPU, the same number of each run that is on it.

    >>> free_gpu(2, {"0": [2, 2], "1": [2]})
    '1'
    """
    places = [gpu for gpu, packs in held.items() if len(packs) < min([pack, *packs])]
    return min(places, key=lambda gpu: len(held[gpu]), default=None)


class LocalQueue:
    """Starts runs as places come free, until all have ended.

    Args:
        runs: the runs to start, in order. All runs of the plan are shown, and those that are running already
            are waited for.
        parallel: runs at once at most; None: as many as the GPUs have places (`pack` each), or one per core
            without GPUs.
    """

    def __init__(
        self, ledger: Ledger, runs: Iterable[Run], progress: ProgressCallback, parallel: int | None
    ) -> None:
        self.ledger = ledger
        self.progress = progress
        self.runs = ledger.plan.runs
        self.waiting = deque(runs)
        self.gpus = gpus()
        places = len(self.gpus) * max((run.resources.pack for run in self.waiting), default=1)
        self.parallel = parallel or places or cpu_cores()
        if self.gpus:
            self.parallel = min(self.parallel, places)
        threads = max(1, cpu_cores() // min(self.parallel, max(1, len(self.waiting))))
        self.starter = LocalStarter(self.gpus, threads, len(self.waiting))
        self.policy = ledger.plan.profile.retry_policy
        self.jobs: dict[str, tuple[Run, LocalRun]] = {}
        # By signature: number of the run's first attempt in this queue.
        self.first = {run.signature: ledger.next_number(run) for run in self.waiting}
        self.file = QueueFile(ledger.paths)
        self.poll_interval = PollInterval(FILES_S)
        self.statuses: dict[str, RunStatus] = {}
        self.page = PageRenewal(ledger.path, ledger.plan.renew_report)
        self.looks_at_race = ledger.plan.race is not None

    def run_all(self) -> None:
        """Run everything. A KeyboardInterrupt lets the runs save, and is passed on; a second one kills them."""
        with self.file.show(self.first):
            self.statuses = {run.signature: self._read(run) for run in self.runs}
            try:
                # A run whose end is written may have a process that is still to be reaped.
                while self._move_on() or self.waiting or self.jobs or self._running():
                    if self._reap() or self._start() or self.poll_interval.is_due():
                        self._refresh()
                    self.page.draw_if_due()
                    time.sleep(_TICK_S)
                self._refresh()
                self.page.stop()
            except KeyboardInterrupt:
                self._stop()
                self.page.draw()
                raise
            finally:
                self.starter.close()

    def _running(self) -> list[Run]:
        return [run for run in self.runs if self.statuses[run.signature].state == "running"]

    def _read(self, run: Run) -> RunStatus:
        return read_local_status(self.ledger, run)

    def _start(self) -> bool:
        """Start what there is a place for; whether there was any."""
        before = len(self.waiting)
        while self.waiting and len(self._running()) < self.parallel and self.starter.is_ready():
            gpu = self._free_gpu(self.waiting[0]) if self.gpus else None
            if self.gpus and gpu is None:
                break
            run = self.waiting.popleft()
            folder = self.ledger.folder(run)
            unwanted = why_not_to_start(folder)
            if unwanted:
                if not cancelled_note(folder).exists():
                    self.ledger.note_not_started(run, unwanted)
                self.statuses[run.signature] = self._read(run)
                continue
            # Else a Ctrl-C in between leaves a run that nobody stops.
            with signals_deferred((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
                attempt = self.ledger.new_attempt(run)
                self.jobs[run.signature] = run, self.starter.start(attempt, gpu)
            self.statuses[run.signature] = self._read(run)
        return len(self.waiting) < before

    def _move_on(self) -> bool:
        """In a race, add the runs that move on, once no other waits for a place; whether there were any."""
        if not self.looks_at_race or self.waiting or len(self._running()) >= self.parallel:
            return False
        self.looks_at_race = False  # until the next run has ended
        if race_gate.is_cancelled(self.ledger):
            return False
        standings = read_standings(self.ledger, [self.statuses[run.signature] for run in self.runs])
        moving = [run for run in self.runs if standings and run.signature in standings.moving]
        if standings and moving:
            standings.write(self.ledger, moving)
            self.first |= {run.signature: self.ledger.next_number(run) for run in moving}
            self.waiting.extend(moving)
            self.file.write(self.first)
            self.statuses |= {run.signature: self._read(run) for run in moving}
        return bool(moving)

    def _free_gpu(self, run: Run) -> str | None:
        """A GPU for `run`; runs of the sweep that a launcher that died has started count too."""
        held: dict[str, list[int]] = {gpu: [] for gpu in self.gpus}
        for other in self._running():
            attempt = last_attempt(self.ledger.folder(other))
            record = try_record(attempt.job_file) if attempt else None
            if record and record.get("gpu") in held:
                held[record["gpu"]].append(other.resources.pack)
        return free_gpu(run.resources.pack, held)

    def _reap(self) -> bool:
        """Decide what follows for the runs that have ended; whether there was any."""
        ended = [(signature, run, job) for signature, (run, job) in self.jobs.items() if job.done()]
        self.looks_at_race |= bool(ended) and self.ledger.plan.race is not None
        for signature, run, job in ended:
            del self.jobs[signature]
            step = finish_attempt(
                EndedAttempt(job.attempt, self.first[signature]), self.policy, self._wait_for_room
            )
            if step.action == "again":
                self.waiting.appendleft(run)
            self.page.has_ended()
            self.statuses[signature] = self._read(run)
        return bool(ended)

    def _wait_for_room(self, seconds: float) -> None:
        self._refresh("the disk is full: waiting for room")
        time.sleep(seconds)

    def _refresh(self, message: str = "") -> None:
        self.file.beat()
        for run in self._running():
            self.statuses[run.signature] = self._read(run)
        self.progress.update([self.statuses[run.signature] for run in self.runs], message)

    def _stop(self) -> None:
        """Ask every run to save and end, and wait for them; kill them if the user insists."""
        self.file.remove()
        self.statuses |= {run.signature: self._read(run) for run in self.waiting}
        self.waiting.clear()
        for _, job in self.jobs.values():
            job.stop()
        try:
            while self.jobs:
                self._refresh("stopping: the runs save at their next step (Ctrl-C again: end them now)")
                time.sleep(_TICK_S)
                self._note_stopped()
        except KeyboardInterrupt:
            for _, job in self.jobs.values():
                job.kill()
            while self.jobs:
                time.sleep(_TICK_S)
                self._note_stopped()
        self._refresh()

    def _note_stopped(self) -> None:
        """For a run that ended before it could tell how: we know, for we stopped it."""
        for signature, (_, job) in list(self.jobs.items()):
            if job.done():
                if not job.attempt.outcome_file.exists():
                    job.attempt.write_outcome(Outcome("stopped", "ended by the user before it could save"))
                del self.jobs[signature]
