"""The image's entry, outside of an image; what only a container shows is in tests/docker."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hyperformer.cli import main as hyperformer
from launchers.cli import container, container_check
from launchers.store import processes


def test_commands_of_the_image() -> None:
    assert container.program(["sweep", "demo", "-n"], 0) == ["hyperformer-sweep", "demo", "-n"]
    assert container.program(["params", "adapters"], 0) == ["hyperformer", "params", "adapters"]
    assert container.program(["train", "adapters"], 1) == ["hyperformer", "train", "adapters"]
    assert container.program(["train", "--help"], 4) == ["hyperformer", "train", "--help"]
    assert container.program(["train", "adapters", "seed=2"], 4) == [
        "torchrun", "--standalone", "--nproc-per-node", "4",
        "-m", "hyperformer.finetune_t5_trainer", "adapters", "seed=2",
    ]  # fmt: skip
    assert container.program(["sh", "-c", "true"], 0) == ["sh", "-c", "true"]
    assert container.program(["tain"], 0) is None


def test_every_subcommand_of_hyperformer_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        hyperformer(["--help"])
    found = re.findall(r"^    ([a-z]+)(?: |$)", capsys.readouterr().out, re.MULTILINE)
    assert sorted(found) == sorted(container.OF_HYPERFORMER)
    assert all(name in container.USAGE for name in found)


def test_words_that_mean_nothing_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert container.main(["trian"]) == 2
    assert "trian: no command or program of the image; did you mean 'train'?" in capsys.readouterr().err
    assert container.main([]) == 0 and capsys.readouterr().out.startswith("usage: docker run")


def test_a_home_that_can_be_written_and_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    found = container.environment({"HOME": str(gone)}, tmp_path, tmp_path)
    assert found["HOME"] == str(tmp_path) and "HYPERFORMER_COMMIT" not in found
    monkeypatch.setattr(container, "COMMIT", tmp_path / "commit")
    (tmp_path / "commit").write_text("abc\n")
    found = container.environment({"HOME": str(tmp_path)}, tmp_path, gone)
    assert found["HOME"] == tempfile.gettempdir() and found["HYPERFORMER_COMMIT"] == "abc"


def test_a_container_knows_that_the_one_before_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock ends with its process, whatever ends it; while it is held, another one has its own name."""
    monkeypatch.setattr(container.socket, "gethostname", lambda: "second")
    hold = f"""
import socket; socket.gethostname = lambda: "first"
from pathlib import Path; from launchers.cli import container
print(container._host(Path({str(tmp_path)!r})), flush=True); input()"""
    first = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None and first.stdout.readline() == "container\n"
    assert container._host(tmp_path) == "second"
    monkeypatch.setattr(container.socket, "gethostname", lambda: "first")  # `docker exec` into the first
    assert container._host(tmp_path) == "container"
    first.kill()
    first.wait()
    monkeypatch.setattr(container.socket, "gethostname", lambda: "second")
    assert container._host(tmp_path) == "container"


def test_processes_of_the_container_before_are_known_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERFORMER_HOST", "container")
    mine = processes.this_process()
    assert mine["host"] == "container" and processes.is_alive(mine)
    assert processes.is_alive({**mine, "born": "1"}) is False
    monkeypatch.delenv("HYPERFORMER_HOST")
    assert processes.is_alive(mine) is None


def test_check_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert container_check.check(tmp_path, tmp_path, quick=True) == 0
    out = capsys.readouterr().out
    assert "torch 2" in out and f"{tmp_path} (runs and outputs): not mounted, can be written" in out
    assert "is lost with it: add -v" in out
