"""Runs on this machine: how one is started, asked to stop, and ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from hyperformer.files import write_json
from launchers.job.run_process import RunProcess, RunStarter
from launchers.store.attempts import Attempt
from launchers.store.code_snapshot import python_path
from launchers.store.processes import describe


class LocalRun:
    """An attempt in its process."""

    def __init__(self, process: RunProcess, attempt: Attempt) -> None:
        self._process = process
        self.attempt = attempt

    def done(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, and whatever it started."""
        if not self.done():
            with suppress(ProcessLookupError):  # it has no session of its own yet
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.send_signal(signal.SIGKILL)


class LocalStarter:
    """Starts runs on this machine.

    Args:
        gpus: those that they share out, as CUDA_VISIBLE_DEVICES names them.
        threads: CPU threads that each should use.
        runs: how many are to start.
    """

    def __init__(self, gpus: Sequence[str], threads: int, runs: int) -> None:
        variables = {
            "PYTHONPATH": python_path(),
            "CUDA_VISIBLE_DEVICES": ",".join(gpus),
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive",  # runs share the cores: a waiting thread must not spin
        }
        # A Ctrl-C in the launcher's terminal is for the launcher, which asks the runs to stop by SIGTERM.
        self._starter = RunStarter(variables, runs, own_sessions=True)

    def is_ready(self) -> bool:
        """Whether a run can be started without waiting."""
        return self._starter.is_ready()

    def start(self, attempt: Attempt, gpu: str | None) -> LocalRun:
        """Start an attempt now; `gpu`: the one that it sees, None: none."""
        process = self._starter.start(["--local", str(attempt.folder)], gpu or "", attempt.logs)
        record = {"cluster": "local", "job_id": str(process.pid), "gpu": gpu, "submitted": time.time()}
        write_json(attempt.job_file, {**record, **describe(process.pid)})
        return LocalRun(process, attempt)

    def close(self) -> None:
        """Start no more; the runs continue."""
        self._starter.close()
