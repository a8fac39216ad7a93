"""What squeue and sacct say of jobs, with pretended answers of theirs; tests/cluster has real ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from launchers.slurm import commands, job_queue
from launchers.slurm.commands import ClusterError, NoAnswer

SQUEUE = """\
23_0|RUNNING|None|node1|n|2026-01-01T00:00:00|1:05
23_1|PENDING|JobArrayTaskLimit||n|N/A|0:00
24|TIMEOUT|TimeLimit|node2|n||
26|FAILED|NonZeroExitCode|node2|n||
27_[0-5:5,7%2]|PENDING|Resources||n|N/A|0:00
28_[1-3,5,...|PENDING|Resources||n|N/A|0:00
"""
SACCT = """\
23_2|NODE_FAIL|node1|n|x|0:10|0:0
23_2|CANCELLED by 0|node1|n|x|0:10|0:15
23_2.batch|CANCELLED|node1|batch|x|0:10|0:15
29_[3-9%2]|PENDING|None assigned|n|Unknown|00:00:00|0:0
26|FAILED|node2|n|x|0:10|1:0
26.0|OUT_OF_MEMORY|node2|python|x|0:10|0:125
30|FAILED|node2|n|x|0:00|0:53
31|A_STATE_TO_COME|node2|n|x|0:00|0:0
"""


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | Exception], list[tuple[str, ...]]]:
    """Let SLURM answer so; what it was asked comes back. Text that begins with 'error:' is one of a command."""

    def answers(squeue: str, sacct: str | Exception) -> list[tuple[str, ...]]:
        asked: list[tuple[str, ...]] = []

        def run(command: tuple[str, ...], stdin: str) -> subprocess.CompletedProcess[str]:
            asked.append(command)
            text = squeue if command[0] == "squeue" else sacct
            if isinstance(text, Exception):
                raise text
            failed = text.startswith("error:")
            return subprocess.CompletedProcess(
                command, failed, "" if failed else text, text if failed else ""
            )

        monkeypatch.setattr(commands, "_run", run)
        return asked

    return answers


def test_squeue_and_sacct_are_read(slurm: Callable[..., list[tuple[str, ...]]]) -> None:
    asked = slurm(SQUEUE, SACCT)
    ids = ["23_0", "23_1", "23_2", "24", "25", "26", "27_5", "27_6", "27_7", "28_900", "29_4", "30", "31"]
    found = job_queue.query(ids)
    assert {job_id: job.state for job_id, job in found.items()} == {
        "23_0": "RUNNING", "23_1": "PENDING", "23_2": "CANCELLED", "24": "TIMEOUT", "26": "OUT_OF_MEMORY",
        "27_5": "PENDING", "27_7": "PENDING", "28_900": "PENDING", "29_4": "UNKNOWN", "30": "FAILED", "31": "UNKNOWN",
    }  # fmt: skip
    assert (found["23_0"].elapsed, found["23_0"].node, found["23_1"].start) == (65.0, "node1", "")
    assert found["30"].reason == "JobLaunchFailure" and "A_STATE_TO_COME" in found["31"].reason
    assert [command[0] for command in asked] == ["squeue", "sacct"]
    assert "--jobs=23,24,25,26,27,28,29,30,31" in asked[0] and "--jobs=23,25,26,27,29,30,31" in asked[1]


@pytest.mark.parametrize(
    ("sacct", "gone"),
    [
        (NoAnswer("SLURM does not answer: sacct took more than 60 s"), "UNKNOWN"),
        ("error: slurmdbd: Unable to contact the database", "UNKNOWN"),
        (ClusterError("sacct is not here"), None),
        ("error: Slurm accounting storage is disabled", None),
        ("error: slurmdbd: Access denied", None),
    ],
)
def test_what_squeue_said_holds_whatever_sacct_does(
    slurm: Callable[..., list[tuple[str, ...]]], sacct: str | Exception, gone: str | None
) -> None:
    slurm(SQUEUE, sacct)
    found = job_queue.query(["23_0", "26", "99"])
    assert (found["23_0"].state, found["26"].state) == ("RUNNING", "FAILED")
    assert (found["99"].state if "99" in found else None) == gone


ROW = "7|RUNNING|None|node1|n|2026-01-01T00:00:00|1:05"
OF_SACCT = "7|COMPLETED|node1|n|x|1:05|0:0"


@pytest.mark.parametrize(
    "damage",
    [
        lambda row: f"{row}|more",
        lambda row: row[:8],
        lambda row: "7",
        lambda row: row.replace("|", " "),
        lambda row: f"hpc2:{row}",
        lambda row: row.replace("7", "7+0", 1),
        lambda row: row.replace("7", "7_[0-4:0]", 1),
        lambda row: row.replace("7", "7_[0-99999999999]", 1),
        lambda row: "<html>",
        lambda row: "\x00",
    ],
)
def test_a_row_that_is_not_understood_is_not_a_job_that_slurm_forgot(
    slurm: Callable[..., list[tuple[str, ...]]], damage: Callable[[str], str]
) -> None:
    """A run whose job is forgotten is lost, and a submit starts it again."""
    slurm(damage(ROW), "")
    with pytest.raises(NoAnswer, match="not understood"):
        job_queue.query(["7"])
    slurm("error: Invalid job id specified", damage(OF_SACCT))
    found = job_queue.query(["7"])["7"]
    assert found.state == "UNKNOWN" and "not understood" in found.reason
    slurm(damage("7|name|RUNNING|node1"), "")
    with pytest.raises(NoAnswer):  # else it was never submitted
        job_queue.ids_by_name(["name"], since=1e9)


def test_what_stands_between_rows_and_around_cells_is_left_out(
    slurm: Callable[..., list[tuple[str, ...]]],
) -> None:
    told = f"CLUSTER: hpc2\nsqueue: warning: slow\nWelcome\n {ROW.replace('|', ' | ')} \r\n"
    slurm(told, "")
    assert job_queue.query(["7"])["7"].state == "RUNNING"
    slurm("CLUSTER: hpc2\n", "sacct: warning: slow\n")
    assert job_queue.query(["7"]) == {}


def test_nobody_reached_and_exit_code_0(
    slurm: Callable[..., list[tuple[str, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = subprocess.CompletedProcess(
        ("squeue",), 0, "", "squeue: error: Unable to contact slurm controller"
    )
    monkeypatch.setattr(commands, "_run", lambda command, stdin: told)
    with pytest.raises(NoAnswer, match="Unable to contact"):
        job_queue.query(["7"])


def test_a_job_that_sbatch_was_refused_is_nobodys(slurm: Callable[..., list[tuple[str, ...]]]) -> None:
    """SLURM remembers it for some minutes, as failed and without a node."""
    asked = slurm("7|a|FAILED|\n8_[1-3]|b|PENDING|\n8_0|b|FAILED|node1\n", "7|a|FAILED|None assigned\n")
    assert job_queue.ids_by_name(["a", "b"], since=1e9) == {"b": "8"}
    assert "--name=a" in asked[1]
    slurm("", "9_1.0|a|RUNNING|node1\n")
    assert job_queue.ids_by_name(["a"], since=1e9) == {"a": "9"}
    slurm("", NoAnswer("too long"))
    with pytest.raises(NoAnswer):  # it may have it: nobody can say that it was never submitted
        job_queue.ids_by_name(["a"], since=1e9)


@pytest.mark.parametrize(
    ("text", "ids", "cut"),
    [
        ("23", ["23"], False),
        ("23_4", ["23_4"], False),
        ("23_[0-2,7%4]", ["23_0", "23_1", "23_2", "23_7"], False),
        ("23_[0-198:99%200]", ["23_0", "23_99", "23_198"], False),
        ("23_[1,3,...]", ["23_1", "23_3"], True),
        ("23_[1,3,15...", ["23_1", "23_3"], True),
        ("23_[1-2,4", ["23_1", "23_2", "23_4"], True),
    ],
)
def test_job_ids_of_arrays(text: str, ids: list[str], cut: bool) -> None:
    found = job_queue.read_ids(text)
    assert (list(found.expand()), found.cut) == (ids, cut)


def test_slurm_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ClusterError, match="squeue is not here"):
        job_queue.query(["1"])
    assert job_queue.query([]) == {}
