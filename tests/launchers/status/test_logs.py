"""Logs as they grow, on file servers that forget them, over requeues and new attempts."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperformer.errors import HyperformerError
from launchers.api import View
from launchers.plan.plan import Plan
from launchers.status import logs, polling
from launchers.status.logs import LogFile, find, show
from launchers.status.run_status import RunStatus, State
from launchers.store.ledger import Ledger
from launchers.store.submissions import QueuedRun, Submission


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logs, "time", clock)
    monkeypatch.setattr(polling, "time", clock)
    return clock


def view(*states: State, races: bool = False, **more: Any) -> View:
    """How runs in these states stand, of a race that goes on or of none."""
    return View(
        [], [RunStatus("r", "abc", "/r", state, **more) for state in states], [], race_continues=races
    )


@pytest.mark.parametrize("chunk", range(1, 9))
def test_a_character_at_a_blocks_border(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(logs, "_CHUNK", chunk)
    log, text = tmp_path / "log", "aé漢😀z\n"
    log.write_bytes(text.encode() + "é".encode()[:1])  # killed in the middle of a character
    assert show(lambda: [LogFile("t", log)], None)
    assert capsys.readouterr().out == f"==> t <==\n{text}\N{REPLACEMENT CHARACTER}"


def test_a_stale_file_handle_does_not_end_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    log.write_text("one\n")
    real, stale = Path.open, iter([True, False, True, True, True, True, False, False, False])

    def open_(path: Path, *words: Any, **more: Any) -> Any:
        if path == log and next(stale, False):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path, *words, **more)

    monkeypatch.setattr(Path, "open", open_)
    looks = iter(["running", "running", "done"])
    assert show(lambda: [LogFile("t", log)], lambda _: view(next(looks)))
    out, err = capsys.readouterr()
    assert out == "==> t <==\none\n" and err == ""
    stale = iter([True] * 99)
    assert not show(lambda: [LogFile("t", log)], None)
    assert f"note: {log} could not be read to its end: Stale file handle" in capsys.readouterr().err


def test_following_goes_on_over_a_requeue_and_shows_the_new_attempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    found = [LogFile("first", first)]

    def looks() -> Iterator[View]:
        first.write_text("a\n")
        yield view("running")
        first.write_text("a\nb\n")
        yield view("stopped", goes_on=True)  # SLURM has it in no queue for a moment
        yield view("pending")
        found[:] = [LogFile("second", second)]
        second.write_text("c\n")
        yield view("running")
        first.write_text("a\nb\nlast words\n")
        yield view("done")

    steps = looks()
    assert show(lambda: found, lambda _: next(steps))
    assert capsys.readouterr().out == (
        "==> first <==\na\nb\n==> second <==\nc\n==> first <==\nlast words\n"
    )  # fmt: skip


def test_following_ends_where_nothing_starts_again(tmp_path: Path, clock: Clock) -> None:
    """The job said that it goes back into the queue, and neither way worked."""
    show(lambda: [], lambda _: view("stopped", goes_on=True))
    assert 60 <= clock.now < 120
    before = clock.now
    show(lambda: [], lambda _: view("failed", "unknown", unreadable="a newer version"))
    assert clock.now == before


def test_following_waits_for_the_look_at_a_race(tmp_path: Path, clock: Clock) -> None:
    """All are paused, and the gate, or a launcher on this machine, is to start those that move on."""
    views = iter(
        [*[view("paused", "paused", races=True)] * 40, view("paused", "running"), view("paused", "done")]
    )
    show(lambda: [], lambda _: next(views))
    assert clock.now > 600 and next(views, None) is None


def test_slurm_is_asked_less_and_less_often(tmp_path: Path, clock: Clock) -> None:
    asked: list[float] = []

    def look(max_age_s: float) -> View:
        asked.append(clock.now)
        return view("done" if clock.now > 600 else "running")

    show(lambda: [], look)
    assert asked[:3] == [0, 2, 4] and 55 < asked[-1] - asked[-2] <= 60 and len(asked) < 30


def test_a_log_that_is_written_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a long line\n")
    reader = logs._Reader(LogFile("t", log))
    assert reader.news() == "a long line\n"
    log.write_text("new\n")
    assert (reader.news(), reader.news()) == ("new\n", None)


def test_which_logs(plan_of: Callable[[str], Plan], tmp_path: Path) -> None:
    ledger = Ledger(plan_of("{variants: [hyperformer], tasks: [rte, cola], grid: {seed: [1, 2]}}"), tmp_path)
    local, slurm = ledger.plan.runs
    attempt = ledger.new_attempt(local)
    attempt.job_file.write_text("{}")
    queued = QueuedRun(slurm.signature, slurm.name, ledger.folder(slurm).name, 3, {})
    other = QueuedRun("abc", "o", "o-abc", 1, {})
    ledger.record_submission(
        Submission(1, "j", "slurm", 1.0, "/code", [[other], [queued]], job_id="7", ranks=2)
    )

    def names(rank: int | None) -> list[str]:
        return [f"{log.title}: {log.path.relative_to(ledger.path)}" for log in find(ledger, [slurm], rank)]

    assert find(ledger, [local]) == [
        LogFile("hyperformer-seed1 (attempt 1) stdout.log", attempt.logs[0]),
        LogFile("hyperformer-seed1 (attempt 1) stderr.log", attempt.logs[1]),
    ]
    for runs, rank in (([local], 1), ([local, slurm], 2)):  # rank 0's log is not that of another
        with pytest.raises(HyperformerError, match=f"no such rank; the last one is {rank - 1}"):
            find(ledger, runs, rank)
    folder = f"{ledger.folder(slurm).name}/attempts/3"
    run = "hyperformer-seed2 (attempt 3) rank"
    assert names(0) == [
        f"{run} 0 stdout.log of the job: submitit/7_1_0_log.out",
        f"{run} 0 stderr.log of the job: submitit/7_1_0_log.err",
        f"{run} 0 stdout.log: {folder}/stdout.log",
        f"{run} 0 stderr.log: {folder}/stderr.log",
    ]
    assert names(1) == [
        f"{run} 1 stdout.log of the job: submitit/7_1_1_log.out",
        f"{run} 1 stderr.log of the job: submitit/7_1_1_log.err",
    ]
    assert names(None) == names(0) + names(1)
