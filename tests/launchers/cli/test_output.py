"""What commands say: the next step, equal failures in a line, on any terminal and with closed streams."""

from __future__ import annotations

import gc
import io
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sweep_command import SWEEP, TOY, CommandLine

from hyperformer.terminal import as_written
from launchers import sweep as command_line_of_sweeps
from launchers.cli import suggested_command
from launchers.cli.display import tables
from launchers.cli.display.layout import screen_table
from launchers.plan.plan import Run
from launchers.status import read_status
from launchers.status.polling import PollInterval
from launchers.status.run_status import STATES, RunStatus, State
from launchers.status.state_rules import status_of
from launchers.submit.start_rule import StartChoice

WriteSweep = Callable[[str], Path]
TWO = f"{{base: {TOY}, variants: [hyperformer++], tasks: [toy-sentiment], grid: {{seed: [1, 2]}}}}"


def runs(*states: State, detail: str = "") -> list[RunStatus]:
    return [
        RunStatus(f"run{number}", str(number), f"/runs/run{number}", state, detail)
        for number, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("states", "step"),
    [
        (["done", "failed", "running"], "logs run1"),
        (["done", "pending", "running"], "why"),
        (["done", "running", "missing"], "status -w"),
        (["missing", "waiting"], "status -w"),
        (["done", "missing"], "submit"),
        (["done", "stopped", "cancelled"], "submit"),
        (["done", "cancelled"], "report"),
        (["done", "done"], "report"),
        (["missing"], "submit"),
        (["cancelled"], "submit"),
    ],
)
def test_the_next_step_after_a_look(states: list[State], step: str) -> None:
    found = suggested_command.after_status(runs(*states))
    assert " ".join([found.command, *found.words]) == step


@pytest.mark.parametrize("state", STATES)
def test_the_report_is_proposed_only_when_all_is_over(state: State) -> None:
    is_over = state in ("done", "cancelled", "paused")
    assert (suggested_command.after_status(runs("done", state)) == suggested_command.REPORT) == is_over
    assert suggested_command.after_report(runs("done", state)) != suggested_command.REPORT
    assert (
        suggested_command.after_report(runs("done", "paused"), race_continues=True) == suggested_command.WATCH
    )
    assert (suggested_command.after_status(runs("running", state)) == suggested_command.SUBMIT) is False


def test_retry_is_proposed_only_where_it_starts_something(a_run: Run) -> None:
    failed = runs("failed", "done")
    assert suggested_command.after_why(failed, StartChoice((a_run,))).command == "retry"
    assert suggested_command.after_why(failed, StartChoice((), tuple(failed[:1]))).command == "logs"
    assert suggested_command.after_why(runs("pending"), StartChoice(())) == suggested_command.WATCH


@pytest.mark.parametrize(
    "words",
    [
        ["submit", "s.yaml", "--yes", "--max-parallel", "2", "--ignore", "disk,data", "--cluster", "local"],
        ["submit", "s.yaml", "--no-preflight", "--cluster", "local", "--runs-dir", "r"],
        ["retry", "s.yaml", "seed=2", "*-seed2", "--failed", "--cluster", "local"],
        ["cancel", "s.yaml", "seed=2", "--yes"],
    ],
    ids=" ".join,
)
def test_a_dry_run_proposes_the_same_command_for_real(
    tmp_path: Path, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_sweep(TWO)
    monkeypatch.setattr("sys.argv", ["hyperformer-sweep"])
    states: dict[str, State] = {"submit": "missing", "retry": "failed", "cancel": "waiting"}
    before = status_of
    monkeypatch.setattr(
        read_status, "status_of", lambda facts: replace(before(facts), state=states[words[0]])
    )
    assert command_line_of_sweeps.main([*words, "-n"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == "next: hyperformer-sweep " + shlex.join(words)

    monkeypatch.setattr(read_status, "status_of", lambda facts: replace(before(facts), state="done"))
    assert command_line_of_sweeps.main([*words, "-n"]) == 0
    proposed = capsys.readouterr().out.splitlines()[-1].split()[2]
    assert proposed == ("report" if words[0] == "submit" else "status")


def test_why_says_how_the_others_stand(
    tmp_path: Path,
    write_sweep: WriteSweep,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(TWO)
    assert command_line_of_sweeps.main(["why", "s.yaml", "seed=1"]) == 0
    assert "no run waits or failed: 1 missing" in capsys.readouterr().out


@pytest.fixture
def a_run(plan_of: Callable[[str], object]) -> Run:
    return plan_of(TWO).runs[0]  # type: ignore[attr-defined,no-any-return]


def test_equal_failures_are_one_line() -> None:
    lines = [
        str(line)
        for line in tables.details(
            [
                *runs("failed", "failed", detail="DataError: row 7 has no label"),
                RunStatus("other", "x", "/runs/other", "failed", "OSError: /runs/other/state.json is away"),
                RunStatus("third", "y", "/runs/third", "failed", "OSError: /runs/third/state.json is away"),
                *[RunStatus(f"p{i}", f"p{i}", "", "pending", "Priority") for i in range(6)],
            ]
        )
    ]
    assert lines == [
        "run0, run1: DataError: row 7 has no label",
        "other, third: OSError: /runs/other/state.json is away",
        "p0, p1, p2 and 3 more wait: Priority",
    ]


def test_reasons_are_cut_between_words() -> None:
    detail = "word " * 200
    (line,) = tables.details(runs("failed", detail=detail))
    assert str(line).endswith("word …")


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_a_table_leaves_out_what_does_not_fit(width: int) -> None:
    rows = [["hyperformer++-seed1", "RUNNING", "x" * 20, "y" * 20]]
    table = screen_table(["run", "state", "b", "c"], rows, width, optional=("c", "b")).plain
    assert max(map(len, table.splitlines())) <= width
    assert "RUNNING" in table and ("yy" in table) == (width >= 80) and ("xx" in table) == (width >= 60)


def test_two_names_never_look_alike() -> None:
    def shown(*names: str) -> list[str]:
        table = screen_table(["run", "state"], [[name, "done"] for name in names], 30).plain
        return [line.split()[0] for line in table.splitlines()[2:]]

    ends = ["x" * 40 + "-seed1", "x" * 40 + "-seed2"]
    assert all("…" in name for name in shown(*ends)) and len(set(shown(*ends))) == 2
    beginnings = ["v-lr0.001" + "x" * 40 + "-seed1", "v-lr0.005" + "x" * 40 + "-seed1"]
    assert len(set(shown(*beginnings))) == 2 and max(map(len, shown(*beginnings))) < 30
    middles = ["x" * 30 + middle + "y" * 30 for middle in "ab"]
    assert shown(*middles) == middles


def test_pauses_of_watchers_grow_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    interval, looks = PollInterval(60.0), []
    for _ in range(3600 * 8):
        if interval.is_due():
            looks.append(now)
        now += 0.125
    pauses = [after - before for before, after in zip(looks, looks[1:], strict=False)]
    assert pauses[0] == 2.0 and pauses == sorted(pauses) and pauses[-1] == 60.0
    assert len(looks) < 85


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("command", ["plan", "status", "report", "why", "clusters", "submit -n", "retry -n"])
def test_a_terminal_that_is_not_utf_8(
    tmp_path: Path, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch, encoding: str, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(TWO.replace("hyperformer++", "finetune"))
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    words = command.split()
    cluster = ["--cluster", "local"] if words[0] in ("submit", "retry") else []
    names = [words[0]] if command == "clusters" else [words[0], "s.yaml", *words[1:], *cluster]
    assert command_line_of_sweeps.main(names) == 0
    out.flush()
    told = out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "\\u" not in told
    if command in ("plan", "status"):
        assert ("─" if encoding == "utf-8" else "---") in told


def test_what_a_terminal_cannot_write_is_as_wide_as_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert as_written("88.0 ±8.5 – é") == "88.0 +-8.5 - \\xe9"
    lines = as_written(screen_table(["v", "a", "b"], [["x", "1 ±2", "3"], ["y", "4", "5"]], 100).plain)
    assert lines.splitlines()[2:] == ["x  1 +-2  3", "y  4      5"]


def test_closed_streams(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    write_sweep(TWO)
    sweep = f"{sys.executable} {SWEEP}"
    for command, code, told in (
        ("submit s.yaml --cluster local -n <&-", 0, "2 of 2 runs to start"),
        ("status s.yaml >&-", 0, ""),
        ("status s.yaml 2>&-", 0, "2 missing"),
        ("cancel s.yaml <&- >&- 2>&-", 0, ""),
        ("nowhere.yaml <&- >&- 2>&-", 2, ""),
    ):
        done = subprocess.run(
            ["bash", "-c", f"{sweep} {command}"], cwd=command_line.folder, env=command_line.environment,
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (code, False), done.stderr
        assert told in done.stdout
    assert sorted(path.name for path in command_line.folder.iterdir()) == ["s.yaml"]


def test_pythons_own_thresholds_return_after_a_command() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyboardInterrupt), command_line_of_sweeps.collect_rarely():
        assert gc.get_threshold()[0] > before[0]
        raise KeyboardInterrupt
    assert gc.get_threshold() == before
