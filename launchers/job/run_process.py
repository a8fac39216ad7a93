"""The one place that starts the process of a run: forked from a preloaded process, or a fresh one.

Linux only; elsewhere, and where one run alone is to start, each process is fresh. So it is, too, where the preloaded
process cannot be had or has ended, and the run's log says so.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from launchers.job.preload import Request, command
from launchers.store.attempts import last_log_line
from launchers.store.processes import describe, is_alive

# The command of a run is written over this; a path has 4,096 bytes at most.
_PADDING = "-" * 8192
# An answer takes some milliseconds; a process that was stopped gives none.
_PATIENCE_S = 60.0
_PR_SET_CHILD_SUBREAPER = 36


class RunProcess(Protocol):
    """A child of this process that runs; subprocess.Popen is one."""

    pid: int
    returncode: int | None  # as subprocess has it

    def poll(self) -> int | None: ...
    def send_signal(self, sig: int) -> None: ...


class _Forked:
    """A run that was forked from the preloaded process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._record = describe(pid)

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # this process ignores SIGCHLD: subprocess says 0, too
                self.returncode = None if is_alive(self._record) else 0
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


class RunStarter:
    """Starts runs, each in a process of its own.

    Args:
        variables: environment variables of all of them, over this process's; CUDA_VISIBLE_DEVICES: the GPUs of all.
        runs: how many are to start.
        own_sessions: whether each heads a session of its own, which no signal to this process's group reaches.
    """

    def __init__(self, variables: Mapping[str, str], runs: int, own_sessions: bool) -> None:
        self._variables = {**os.environ, **variables}
        self._own_sessions = own_sessions
        self._why_fresh = ""
        self._preloaded = None
        if runs > 1 and sys.platform == "linux":
            self._preloaded = _Preloaded(self._variables, own_sessions)

    def is_ready(self) -> bool:
        """Whether :meth:`start` need not wait for the preloaded process to have imported all."""
        return self._preloaded is None or self._preloaded.is_ready(0)

    def start(self, arguments: Sequence[str], gpu: str, logs: Sequence[Path]) -> RunProcess:
        """Start a run.

        Args:
            arguments: of :mod:`launchers.job`.
            gpu: its CUDA_VISIBLE_DEVICES.
            logs: of standard output and standard error; they are appended to.

        Raises:
            OSError: no process can be started, or a log cannot be written.
        """
        request = Request(list(arguments), gpu, self._own_sessions)
        with logs[0].open("ab") as out, logs[1].open("ab") as errors:
            # With a GPU or without one, DeepSpeed is another when it is imported.
            if self._preloaded is not None and bool(gpu) == bool(self._variables["CUDA_VISIBLE_DEVICES"]):
                try:
                    return _Forked(self._preloaded.fork(request, [out.fileno(), errors.fileno()]))
                except OSError as error:
                    self._why_fresh = f"a process of its own, as the preloaded one is lost: {error}\n"
                    self.close()
            out.write(self._why_fresh.encode())
            out.flush()
            return subprocess.Popen(
                command(request.arguments), env={**self._variables, "CUDA_VISIBLE_DEVICES": gpu},
                stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=self._own_sessions,
            )  # fmt: skip

    def close(self) -> None:
        """End the preloaded process; the runs continue."""
        if self._preloaded is not None:
            self._preloaded.close()
            self._preloaded = None


class _Preloaded:
    """The process of :mod:`launchers.job.preload`, with this environment."""

    def __init__(self, environment: Mapping[str, str], own_session: bool) -> None:
        _adopt_orphans(True)
        self._has_imported = False
        self._log = os.memfd_create("preload")
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_PATIENCE_S)
        number = str(theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", "launchers.job.preload", number, _PADDING], env=environment,
                stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                pass_fds=[theirs.fileno()], start_new_session=own_session,
            )  # fmt: skip

    def is_ready(self, timeout_ms: int | None) -> bool:
        """Whether it answers: it has imported all, or has ended. `timeout_ms`: None: wait for that."""
        answers = select.poll()
        answers.register(self._socket, select.POLLIN)
        return self._has_imported or bool(answers.poll(timeout_ms))

    def fork(self, request: Request, logs: Sequence[int]) -> int:
        """The id of the run's process, which begins as soon as we have it.

        Raises:
            OSError: this process is lost, and with it the request.
        """
        self.is_ready(None)
        if not self._has_imported:
            self._receive()
            self._has_imported = True
        go, tell = os.pipe()
        try:
            with suppress(BrokenPipeError):  # it has ended: the answer is how
                socket.send_fds(self._socket, [json.dumps(asdict(request)).encode()], [*logs, go])
            pid = int(self._receive())
            os.write(tell, b".")
            return pid
        finally:
            os.close(go)
            os.close(tell)

    def _receive(self) -> bytes:
        """Its next answer."""
        answer = self._socket.recv(64)
        if not answer:
            code = self._process.wait()
            text = last_log_line(os.pread(self._log, 1 << 20, 0).decode(errors="replace"))
            raise ConnectionError(f"it ended with exit code {code}{text and f', {text}'}")
        return answer

    def close(self) -> None:
        self._socket.close()
        self._process.kill()  # it may be importing
        self._process.wait()
        os.close(self._log)
        _adopt_orphans(False)


def _adopt_orphans(adopts: bool) -> None:
    """Whether a process below this one becomes its child when its own parent ends (Linux only)."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopts), 0, 0, 0)
