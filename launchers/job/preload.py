"""The preloaded process: it has imported what every run needs, and each run is forked from it.

    python -m launchers.job.preload SOCKET PADDING

Importing takes most of a run's start. :mod:`launchers.job.run_process` starts this process, asks it for runs by the
socket, and becomes their parent: the process in between ends at once. So they outlive this process, and the process
that asked learns how they end. This process ends when the other end of the socket is closed.

**What must not be here.** No thread and no CUDA: a forked child has neither the threads of its parent nor a use of
the parent's CUDA. No random number drawn: a run sets its own seeds. No variable of one run alone, but for
CUDA_VISIBLE_DEVICES, which is read when CUDA is first used.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

# Held back here: a signal to the whole group is for the runs, which get it as soon as they can tell of it.
_HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)
_MOST_BYTES = 1 << 16
# The last two are imported when a run makes its engine and its log.
_MODULES = ("hyperformer.run", "deepspeed", "torch.utils.tensorboard")


@dataclass(frozen=True)
class Request:
    """A run to fork.

    Attributes:
        arguments: of :mod:`launchers.job`.
        gpu: CUDA_VISIBLE_DEVICES of the run.
        own_session: whether it heads a session, and so a process group, of its own.
    """

    arguments: list[str]
    gpu: str
    own_session: bool


def main() -> None:
    """Serve; in a forked child, be the run."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    _set_title([sys.executable, "-m", "launchers.job.preload"])
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        _import()
        _check_forks()
        asked.send(b"ready")
        request = _serve(asked)
    if request is not None:
        _start(request)


def _import() -> None:
    """Import what a run imports. DeepSpeed would look for GPUs: it is set to cuda, and sees none."""
    before = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR")}
    if before["CUDA_VISIBLE_DEVICES"]:
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": before["DS_ACCELERATOR"] or "cuda"}
    try:
        for name in _MODULES:
            importlib.import_module(name)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
    gc.collect()
    gc.freeze()  # the children share this memory as long as nobody writes to it


def _check_forks() -> None:
    """End if a library has threads that it does not stop for a fork, as OpenBLAS does."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    threads = [path for path in Path("/proc/self/task").iterdir() if path.name != str(os.getpid())]
    if threads:
        names = ", ".join((path / "comm").read_text().strip() for path in threads)
        sys.exit(f"the libraries run threads, which a fork would lose: {names}")


def _serve(asked: socket.socket) -> Request | None:
    """Fork runs. Returns in each of them, with its request, and None when the other end of the socket is closed."""
    while True:
        message, descriptors, *_ = socket.recv_fds(asked, _MOST_BYTES, 3)
        if not message:
            return None
        request = Request(**json.loads(message))
        pid = _fork_orphan()
        if pid == 0:
            asked.close()
            _take_place(request, *descriptors)
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        asked.send(str(pid).encode())


def _fork_orphan() -> int:
    """Fork a process whose parent has ended; its id, and 0 in that process itself."""
    read, write = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os.close(write)
            return 0
        os.write(write, str(pid).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(between, 0)
    with open(read, encoding="ascii") as stream:
        return int(stream.read())


def _take_place(request: Request, out: int, errors: int, go: int) -> None:
    """Become the process that the request asks for, once the process that asked knows its id."""
    if request.own_session:
        os.setsid()
    _set_title(command(request.arguments))
    if not os.read(go, 1):
        os._exit(0)
    for given, own in ((out, 1), (errors, 2)):
        os.dup2(given, own)
    for descriptor in (out, errors, go):
        os.close(descriptor)
    os.environ["CUDA_VISIBLE_DEVICES"] = request.gpu


def _start(request: Request) -> None:
    """Run :mod:`launchers.job`, from here on as in a process of its own."""
    words = command(request.arguments)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and (torch.cuda.is_initialized() or torch.cuda._is_in_bad_fork()):
        print("CUDA was used before the fork: this run starts anew, in a process of its own", flush=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        os.execv(sys.executable, words)
    if numpy is not None:
        numpy.random.seed()  # not what the other runs have
    sys.argv = words[3:]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
    runpy.run_module("launchers.job", run_name="__main__", alter_sys=True)


def command(arguments: list[str]) -> list[str]:
    """The command that starts a run in a process of its own."""
    return [sys.executable, "-u", "-m", "launchers.job", *arguments]


def _set_title(words: list[str]) -> None:
    """Show this command in ps and /proc: it replaces this process's own, PADDING included."""
    fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, see proc(5)
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    if 0 < len(text) <= end - start:
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


if __name__ == "__main__":
    main()
