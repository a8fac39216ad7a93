"""Disks that are full, read-only or broken: one clear line, exit code 2, and no half file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_command import SWEEP, TOY, CommandLine, result_of

from hyperformer.files import write_json
from launchers import sweep
from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.store.ledger import Ledger

TWO = f"{{base: {TOY}, variants: [hyperformer++], tasks: [toy-sentiment, toy-paraphrase], grid: {{seed: [1, 2]}}}}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real one, of four megabytes, where the runs are to go."""
    disk = tmp_path / "runs"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def whole_files(folder: Path) -> None:
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    assert not list(folder.rglob(".*.tmp"))


def test_full_and_read_only(
    small_disk: Path, command_line: CommandLine, write_sweep: Callable[[str], Path]
) -> None:
    here = ["--cluster", "local", "--ignore", "disk"]  # preflight would say it before
    write_sweep(TWO)
    assert command_line.run("s.yaml", *here)[0] == 0
    write_sweep(TWO.replace("[1, 2]", "[1, 2, 3]"))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 512)
    for command in ("submit", "report", "retry"):
        code, out = command_line.run(command, "s.yaml", *([] if command == "report" else here))
        assert "Traceback" not in out, out
        if command != "retry":  # which finds nothing to do
            error = next(line for line in out.splitlines() if line.startswith("error: "))
            assert (
                code == 2 and str(small_disk) in error and "No space left on device; make room there" in error
            )
    for command in ("status", "why", "plan"):
        assert command_line.run(command, "s.yaml")[0] == 0
    whole_files(small_disk)
    filler.unlink()
    code, out = command_line.run("s.yaml", *here)
    assert code == 0 and "1 of 3 runs to start, 2 done" in out
    assert command_line.status()["counts"] == {"done": 3}

    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for words in (["report"], ["submit", *here]):
        code, out = command_line.run(words[0], "s.yaml", *words[1:])
        assert code == 2 and "Traceback" not in out and ("Read-only" in out or "cannot be written" in out), (
            out
        )
    assert command_line.run("status", "s.yaml")[0] == 0


def test_output_that_cannot_be_written(command_line: CommandLine, write_sweep: Callable[[str], Path]) -> None:
    write_sweep(TWO)
    words = ["bash", "-c", '"$@" >/dev/full', "x", sys.executable, str(SWEEP), "plan", "s.yaml"]
    done = subprocess.run(words, cwd=command_line.folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: a file, or what is printed: No space left on device") and (
        len(done.stderr.splitlines()) == 1
    )


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_every_write_may_fail(
    tmp_path: Path,
    write_sweep: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    """The n-th call that changes the disk fails, for every n, in each command that writes."""
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(load_plan(str(write_sweep(TWO)), NO_PROFILE), tmp_path / "runs")
    failed = 0
    for command in (["report", "s.yaml"], ["cancel", "s.yaml", "-y"], ["commit"]):
        for nth in range(1, 40):
            ledger.refresh()
            ledger.commit()
            run = ledger.plan.runs[0]
            attempt = ledger.new_attempt(run)
            write_json(attempt.job_file, {"cluster": "local", "host": "elsewhere", "job_id": "1", "pid": 1})
            done = ledger.folder(ledger.plan.runs[1])
            done.mkdir(exist_ok=True)
            write_json(done / "result.json", result_of(ledger.plan.runs[1]))
            with monkeypatch.context() as patch:
                calls = fail_at(patch, nth, number)
                if command == ["commit"]:
                    try:
                        ledger.commit()
                    except OSError as error:
                        assert error.errno == number
                else:
                    assert sweep.main(command) in (0, 2)
                    told = capsys.readouterr()
                    if calls[0] >= nth and command[0] == "report":
                        assert os.strerror(number) in told.err and "Traceback" not in told.err
            whole_files(tmp_path / "runs")
            if calls[0] < nth:
                break
            failed += 1
        else:
            pytest.fail("the command never came to its end")
    assert failed > 8


def fail_at(patch: pytest.MonkeyPatch, nth: int, number: int) -> list[int]:
    """Let the n-th call that changes the disk fail; returns the count of calls."""
    calls = [0]

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            calls[0] += 1
            if calls[0] == nth:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **more)

        return call

    for name in ("fsync", "replace", "mkdir", "link", "rename"):
        patch.setattr(os, name, failing(getattr(os, name)))
    return calls
