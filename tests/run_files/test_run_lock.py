"""One trainer per run: by the kernel's lock on one machine, by the heartbeat across machines."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hyperformer.errors import TAKEN_OVER_EXIT, RunInUse
from hyperformer.run_files import run_lock
from hyperformer.run_files.run_lock import NAME, hold, holder

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(run_lock, "_TRIES", 3)


def _train(folder: Path, boot: str | None, ready: Any) -> None:
    if boot is not None:
        run_lock._boot = lambda: boot  # type: ignore[assignment]
    with hold(folder):
        ready.set()
        time.sleep(60)


@contextmanager
def trainer(folder: Path, boot: str | None = None) -> Iterator[Any]:
    """Another process that holds the run; with `boot`, one that looks as if it were on another machine."""
    ready = FORK.Event()
    process = FORK.Process(target=_train, args=(folder, boot, ready))
    process.start()
    try:
        assert ready.wait(300)
        yield process
    finally:
        process.kill()
        process.join()


def wait_until_stopped(pid: int) -> None:
    """A stop signal is sent, not obeyed, when kill returns: a thread inside a system call ends that first."""
    tasks = Path(f"/proc/{pid}/task")
    while {stat.read_text().rpartition(")")[2].split()[0] for stat in tasks.glob("*/stat")} != {"T"}:
        time.sleep(0.01)


def without_locks(descriptor: int, kind: int) -> None:
    """What flock does on a network file system that has no lock service."""
    if NAME in os.readlink(f"/proc/self/fd/{descriptor}"):
        raise OSError(errno.ENOLCK, "No locks available")
    FLOCK(descriptor, kind)


FLOCK: Callable[[int, int], None] = fcntl.flock
FILE_SYSTEMS = pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])


@FILE_SYSTEMS
def test_a_second_trainer_is_refused_until_the_first_is_killed(
    locks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not locks:
        monkeypatch.setattr(fcntl, "flock", without_locks)
    assert holder(tmp_path) is None
    with trainer(tmp_path) as other:
        found = holder(tmp_path)
        assert found is not None and found["pid"] == other.pid and found["since"] <= time.time()
        with pytest.raises(RunInUse) as refused, hold(tmp_path):
            pass
        for part in (
            f"{tmp_path} is being trained by process {other.pid} on",
            "Nothing was changed",
            " since 20",
        ):
            assert part in str(refused.value)
        assert NAME not in str(refused.value)  # the kernel knows: there is nothing to remove
        assert holder(tmp_path) == found
        os.kill(other.pid, signal.SIGKILL)
        other.join()
        assert holder(tmp_path) is None
        with hold(tmp_path):
            assert holder(tmp_path)["pid"] == os.getpid()  # type: ignore[index]
    assert holder(tmp_path) is None and (tmp_path / NAME).read_text() == ""


def test_of_many_that_start_at_once_one_trains(tmp_path: Path) -> None:
    log, start = tmp_path / "log", FORK.Event()

    def contend() -> None:
        start.wait()
        try:
            with hold(tmp_path):
                with log.open("a") as lines:
                    lines.write("held\n")
                time.sleep(3)
        except RunInUse:
            with log.open("a") as lines:
                lines.write("refused\n")

    processes = [FORK.Process(target=contend) for _ in range(6)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert sorted(log.read_text().split()) == ["held", *["refused"] * 5]


def test_of_many_machines_that_start_at_once_one_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None sees the lock of another; a boot id of its own stands for a machine."""
    monkeypatch.setattr(run_lock, "HEARTBEAT_SECONDS", 15.0)
    monkeypatch.setattr(run_lock, "_lock", lambda descriptor, path, kind: descriptor)
    # All read the file before the first writes into it: the worst case.
    barrier, wait = FORK.Barrier(4), run_lock._wait_for_other_machine

    def read(path: Path) -> None:
        wait(path)
        barrier.wait()

    monkeypatch.setattr(run_lock, "_wait_for_other_machine", read)

    over = tmp_path / "over"  # a file: an event waits for all that waited, and some have died

    def contend(number: int) -> None:
        run_lock._boot = lambda: f"machine {number}"  # type: ignore[assignment]
        # Some records are longer than others, as the names of hosts are.
        monkeypatch.setenv("HYPERFORMER_HOST", "node" * (1 + number % 3))
        with hold(tmp_path):
            while not over.exists():
                time.sleep(0.05)

    processes = [FORK.Process(target=contend, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    while sum(process.is_alive() for process in processes) > 1:
        time.sleep(0.05)
    over.touch()
    for process in processes:
        process.join()
    assert sorted(process.exitcode or 0 for process in processes) == [0, *[TAKEN_OVER_EXIT] * 3]


def test_a_record_is_never_seen_in_part(tmp_path: Path) -> None:
    """Without locks two machines may write at once; a reader sees one of them, whole."""
    path = tmp_path / NAME
    path.touch()
    ended = FORK.Value("b", 0)

    def write(host: str) -> None:
        while not ended.value:
            run_lock._write(path, run_lock._record_text({"host": host}))

    writers = [FORK.Process(target=write, args=("node" * size,)) for size in (1, 2, 40)]
    for writer in writers:
        writer.start()
    try:
        seen = {text for _ in range(5_000) if (text := run_lock._read(path))}
    finally:
        ended.value = 1
        for writer in writers:
            writer.join()
    assert 1 < len(seen) <= 3
    assert {len(json.loads(text)["host"]) for text in seen} <= {4, 8, 160}


def test_a_status_command_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("x")
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            holder(tmp_path)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with hold(tmp_path):
                pass
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_another_machine_without_common_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines share the folder, and neither sees the other's locks: a boot id of its own stands for a machine."""
    with trainer(tmp_path, boot="another machine") as other:
        # Its lock does not reach here.
        os.rename(tmp_path / NAME, tmp_path / "file")
        (tmp_path / NAME).write_text((tmp_path / "file").read_text())
        assert holder(tmp_path)["pid"] == other.pid  # type: ignore[index]
        with (
            pytest.raises(RunInUse, match=f"process {other.pid} .*gone, remove {tmp_path / NAME}"),
            hold(tmp_path),
        ):
            pass
        os.kill(other.pid, signal.SIGSTOP)
        wait_until_stopped(other.pid)
        with hold(tmp_path):  # after a lease
            assert holder(tmp_path)["pid"] == os.getpid()  # type: ignore[index]
            # It comes back, and sees that it has lost the run.
            os.kill(other.pid, signal.SIGCONT)
            other.join(300)
            assert other.exitcode == TAKEN_OVER_EXIT
    assert holder(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["{", "[1]", "\x00" * 200, '{"since": 1e400}', '{"boot": 3, "since": "now"}']
)
def test_a_damaged_record_is_nobody_unless_it_is_locked_or_touched(text: str, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(text)
    with path.open() as stream:
        FLOCK(stream.fileno(), fcntl.LOCK_EX)
        assert holder(tmp_path) is not None
        with pytest.raises(RunInUse, match=r"process \(unknown\) on \(unknown\)"), hold(tmp_path):
            pass
    assert holder(tmp_path) is not None  # it was touched a moment ago
    os.utime(path, (1, 1))
    assert holder(tmp_path) is None
    with hold(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_file_that_was_removed_does_not_let_two_train_for_long(tmp_path: Path) -> None:
    with trainer(tmp_path) as other:
        (tmp_path / NAME).unlink()
        with hold(tmp_path):
            other.join(300)
            assert other.exitcode == TAKEN_OVER_EXIT
