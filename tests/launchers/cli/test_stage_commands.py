"""The command line on a sweep file with stages."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finished_runs import FakeStarter

from launchers import sweep
from launchers.cli import output
from launchers.renew.renewal import renew
from launchers.report import page_redraw
from launchers.stages import __main__ as gate_entry
from launchers.store.attempts import Attempt
from launchers.store.sweep_folder import SweepFolder
from launchers.submit import local_queue
from launchers.submit.gate import record
from launchers.submit.gate.record import GateRecord

TEXT = """
    base: {model_name_or_path: toy, data_source: toy, warmup_steps: 0}
    variants: [hyperformer++]
    stages:
      train:
        tasks: [toy-sentiment]
        grid: {seed: [SEED, 2]}
      transfer:
        base: {init_from: {stage: train, seed: 2}, init_tasks: {toy-entailment: toy-sentiment}}
        tasks: [toy-entailment]
    """
Sweep = Callable[..., tuple[int, str]]


@pytest.fixture
def line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`sweep.py` in the test's folder and process, without trainings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local_queue, "LocalStarter", FakeStarter)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*words: str) -> tuple[int, str]:
        code = sweep.main([*words, *(["--cluster", "local"] if words[0] in ("submit", "retry") else [])])
        told = capsys.readouterr()
        assert told.out.count("next: ") == (0 if code == 2 or "--json" in words else 1), told.out
        return code, told.out + told.err

    return run


def next_of(out: str) -> str:
    """The command that is suggested, without the program's name."""
    (found,) = re.findall(r"next: .*?(\w+ [st]\.yaml.*)", out)
    return str(found)


class Interrupted(FakeStarter):
    """Ctrl-C comes when a run is to start."""

    def start(self, attempt: Attempt, gpu: str | None) -> Any:
        raise KeyboardInterrupt


def waits(line: Sweep) -> dict[str, Any]:
    _, out = line("status", "s.yaml", "--json")
    found = json.loads(out)
    return {"report": found["report"]} | {each["stage"]: each["waits"] for each in found["stages"]}


def test_before_and_after_on_one_machine(
    line: Sweep, write_sweep: Callable[..., Path], tmp_path: Path
) -> None:
    write_sweep(TEXT.replace("SEED", "1"))
    code, out = line("plan", "s.yaml")
    assert code == 0 and "stage train" in out and "stage transfer" in out and "2 missing" in out
    assert "which runs it starts from is known when those before it are done" in out
    assert next_of(out) == "submit s.yaml"
    code, out = line("submit", "s.yaml", "-n")
    assert code == 0 and out.count("nothing was done") == 2 and not (tmp_path / "runs").exists()
    assert next_of(out) == "submit s.yaml --cluster local"
    for words in (("logs", "s.yaml", "hyper*"), ("retry", "s.yaml", "hyper*")):
        code, out = line(*words)
        assert code == 2 and "s.yaml:train" in out
    code, out = line("submit", "s.yaml:transfer")
    assert code == 2 and "s.transfer: the runs that it starts from are not done" in out
    code, out = line("submit", "s.yaml")
    assert code == 0 and "s.transfer: 1 of 1 runs to start" in out and "s.transfer: test results" in out
    assert next_of(out) == "status s.yaml" and next_of(line("status", "s.yaml")[1]) == "report s.yaml"
    assert {folder.name for folder in (tmp_path / "runs").iterdir()} == {"s.train", "s.transfer", "s.report"}
    assert waits(line) == {"report": "", "train": "", "transfer": ""}
    page = tmp_path / "runs/s.report/index.html"
    text = page.read_text()
    for words in (
        "Stage train</h2>", "2 runs: 2 done.", 'href="../s.train/report/index.html"', "Stage transfer</h2>",
        "hyperformer++ from s.train: hyperformer++-seed2", '"run":"train: hyperformer++-seed1"', "by report<",
    ):  # fmt: skip
        assert words in text, words
    code, out = line("status", "s.yaml")
    assert "all stages: runs/s.report/index.html (written 0 min ago)" in out
    page.unlink()
    page_redraw.request(transfer := SweepFolder(tmp_path / "runs/s.transfer"))
    renew(transfer, "job 7")  # as a job of a stage that ends
    assert "by job 7<" in page.read_text() and "by job 7<" in (transfer.report / "index.html").read_text()
    code, out = line("submit", "s.yaml")
    assert code == 0 and "0 of 2 runs to start, 2 done" in out and "0 of 1 runs to start, 1 done" in out
    code, out = line("why", "s.yaml")
    assert code == 0 and out.count("no run waits or failed") == 2
    code, out = line("report", "s.yaml:transfer")
    assert code == 0 and "s.train" not in out
    shutil.rmtree(tmp_path / "runs/s.transfer/report")
    (tmp_path / "runs/s.transfer/report").write_text("mine")
    code, out = line("report", "s.yaml:transfer")
    assert code == 2 and "report: File exists; a file is where a folder must be: rename it" in out
    assert (tmp_path / "runs/s.transfer/report").read_text() == "mine"


def test_a_failed_source_on_one_machine(
    line: Sweep, write_sweep: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep(TEXT.replace("SEED", "13"))
    code, out = line("submit", "s.yaml")
    told = "does not start: 1 run of s.train has no result: hyperformer++-seed13 (failed: DataError: row 7 has no "
    told += "label)"
    assert code == 1 and f"transfer {told}" in out
    assert next_of(out) == "logs s.yaml:train hyperformer++-seed13"
    assert next_of(line("why", "s.yaml")[1]) == "retry s.yaml --failed"
    assert waits(line)["transfer"] == told and not (tmp_path / "runs/s.transfer/plan.json").exists()
    code, out = line("status", "s.yaml")
    assert code == 1 and f"stage transfer {told}" in out
    code, out = line("retry", "s.yaml", "-n")
    assert code == 0 and "would retry hyperformer++-seed13" in out and waits(line)["transfer"] == told
    assert next_of(out) == "retry s.yaml --cluster local"
    # Who says no, or stops what has started, starts nothing else either.
    monkeypatch.setattr(output, "can_ask", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    for target in ("s.yaml", "s.yaml:train"):
        code, out = line("retry", target)
        assert code == 2 and "nothing was started" in out and "transfer" not in out
    monkeypatch.setattr(local_queue, "LocalStarter", Interrupted)
    for words in (("retry", "s.yaml"), ("submit", "s.yaml:train")):
        code, out = line(*words, "-y")
        assert code == 130 and next_of(out).startswith("submit s.yaml:train ") and "transfer" not in out
    monkeypatch.setattr(local_queue, "LocalStarter", FakeStarter)
    code, out = line("retry", "s.yaml", "-y")
    assert code == 0 and "s.transfer: 1 of 1 runs to start" in out
    assert waits(line)["transfer"] == ""
    code, out = line("retry", "s.yaml", "-y")
    assert code == 0 and "nothing to retry" in out


def test_after_another_sweep(line: Sweep, write_sweep: Callable[..., Path]) -> None:
    write_sweep(TEXT.replace("SEED", "13"))
    text = "after: s.yaml\nvariants: [finetune]\ntasks: [toy-sentiment]\nbase: {data_source: toy, warmup_steps: 0}"
    write_sweep(text, "t.yaml")
    code, out = line("submit", "t.yaml", "-n")
    assert code == 0 and "t would not start: 2 runs of s.train have no result" in out
    code, out = line("submit", "t.yaml")
    assert code == 1 and "t does not start: 2 runs of s.train have no result" in out
    line("submit", "s.yaml")
    line("retry", "s.yaml", "-y")
    code, out = line("submit", "t.yaml")
    assert code == 0 and "t: 1 of 1 runs to start" in out
    for after, message in {
        "t.yaml": "line 1, after: is this very file",
        "7": "line 1, after: job 7 is SLURM's, and these runs go to this machine",
        "s.yaml:tranfser": "s.yaml has no stage 'tranfser'; did you mean 'transfer'",
        "s.yaml:hyperformer-seed2": "s.yaml has no stage 'hyperformer-seed2'",
        "nobody.yaml": "t.yaml, line 1, after: nobody.yaml: no such sweep file",
    }.items():
        write_sweep(text.replace("s.yaml", after), "t.yaml")
        code, out = line("submit", "t.yaml")
        assert code == 2 and message in out, out


def test_only_the_newest_gate_acts_and_only_on_the_file_that_was_submitted(
    line: Sweep, write_sweep: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(TEXT.replace("SEED", "1"))
    line("submit", "s.yaml")
    gate = tmp_path / "runs/s.transfer/gate.json"
    known = record.read(gate)
    assert known is not None and known.state == "started"
    waiting = record.write(gate, GateRecord(**{**vars(known), "state": "waits", "cluster": "local"}))
    assert gate_entry.main(str(gate), "another") == 0 and record.read(gate) == waiting
    path.write_text(path.read_text().replace("seed: 2", "seed: 1"))
    assert gate_entry.main(str(gate), waiting.token) == 2
    assert "s.yaml was changed since it was submitted: `submit` it again" in capsys.readouterr().err
    assert "was changed" in waits(line)["transfer"]
    path.write_text(path.read_text().replace("{stage: train, seed: 1}", "{stage: train, seed: 2}"))
    record.write(gate, waiting)
    assert gate_entry.main(str(gate), waiting.token) == 0
    out = capsys.readouterr().out
    assert "all stages are done" in out and out.count("report: ") == 2
