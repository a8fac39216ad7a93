"""Standard streams as terminals and shells have them: closed, or of an encoding without the character."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

TRAIN = ["-m", "hyperformer.cli", "train"]


def start(words: list[str], closed: str = "", encoding: str = "utf-8") -> subprocess.CompletedProcess[str]:
    """A command with some of its streams closed, as `command 0<&- 1>&-` does it."""
    shell = f'exec "$@" {closed}'
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", shell, "bash", sys.executable, *words],
        capture_output=True,
        env=environment,
        encoding="latin-1",
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("words", [[*TRAIN, "模型"], ["launchers/sweep.py", "plan", "模型.yaml"]])
def test_a_character_that_the_terminal_does_not_have(words: list[str], encoding: str, tmp_path: Path) -> None:
    done = start([str(ROOT / words[0]) if "/" in words[0] else words[0], *words[1:]], encoding=encoding)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert r"\u6a21\u578b" in done.stderr


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([*TRAIN, "--help"], 0),
        ([*TRAIN, "none-such"], 2),
        (["-m", "hyperformer.cli", "predict", "/nowhere", "--task", "rte"], 2),
    ],
    ids=["help", "train", "predict"],
)
def test_streams_that_are_closed(words: list[str], code: int, closed: str) -> None:
    done = start(words, closed)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    assert code == 0 or "2>" in closed or done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["hyperformer.cli", "params"], r"a\x1b[31mb: no such "),
        (["launchers.sweep", "plan"], r"a\x1b[31mb: no such "),
        (["hyperformer.pretrain", "--output", "OUT", "--text"], r"--text a\x1b[31mb: cannot be read"),
    ],
)
def test_an_error_does_nothing_to_the_terminal(words: list[str], error: str, tmp_path: Path) -> None:
    done = start(["-m", *(word.replace("OUT", str(tmp_path / "out")) for word in words), "a\x1b[31mb"])
    assert done.returncode == 2 and done.stderr.startswith(f"error: {error}")
    assert "\x1b" not in done.stderr


def test_output_to_a_full_disk() -> None:
    done = start(["-m", "hyperformer.cli", "params", "adapters"], "> /dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "No space left on device; make room" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_never_gets_the_number_of_standard_output(tmp_path: Path) -> None:
    path = tmp_path / "file"
    code = (
        "from hyperformer.terminal import prepare_streams as p; p(); "
        f"f = open({str(path)!r}, 'w'); assert f.fileno() > 2; print('printed'); f.write('kept')"
    )
    assert start(["-c", code], "0<&- 1>&- 2>&-").returncode == 0
    assert path.read_text() == "kept"


def test_work_outlives_the_reader_of_its_output() -> None:
    """As in `| head -1`; its exit code is its own."""
    code = (
        "import sys; from hyperformer.terminal import ignore_broken_pipe as o, prepare_streams as p; p(); o(); "
        "print('first', flush=True); sys.stdin.readline(); [print('more' * 9) for _ in range(3000)]; "
        "print('the end', file=sys.stderr); sys.exit(7)"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes) as process:
        assert process.stdin and process.stdout and process.stderr
        assert process.stdout.readline() == "first\n"
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == "the end\n"
    assert process.returncode == 7


@pytest.mark.parametrize("entry", ["launchers.sweep", "hyperformer.cli"])
def test_ctrl_c_while_modules_are_imported(entry: str) -> None:
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'hyperformer.errors':\n"
        "            raise KeyboardInterrupt\n"
        f"sys.meta_path.insert(0, Finder())\nimport {entry}"
    )
    done = start(["-c", code])
    assert (done.returncode, done.stderr) == (-2, "interrupted\n")
