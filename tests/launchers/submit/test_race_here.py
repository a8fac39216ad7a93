"""A race on this machine, by the command line; the jobs train nothing, and end at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import StartsHere, leave
from sweep_command import result_of

from hyperformer.files import write_json
from hyperformer.run_files.pause import read_pause
from hyperformer.run_files.run_folder import RunFolder, RunState
from launchers import sweep
from launchers.api import Sweep
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.slurm.job_queue import SlurmJob
from launchers.store.attempts import Attempt, Outcome
from launchers.submit import local_queue
from launchers.submit.gate import record
from launchers.submit.gate.record import RACE as RACE_GATE
from launchers.submit.gate.record import GateRecord

SWEEP = """
    base: {{model_name_or_path: toy, data_source: toy, max_steps: 8, eval_steps: 2, warmup_steps: 0}}
    variants: [adapters_dagger]
    tasks: [toy-sentiment]
    grid: {{learning_rate: [1, 5, 4, 3, 2], seed: [1, 2]}}
    {race}
    """
RACE = "race: {over: [learning_rate], rungs: [2, 4]}"


class RacingJob:
    """In place of a run's process: the run has paused or ended when it was started.

    Validation is 50 + learning_rate; learning rate 4 is no number from step 4 on, and 3 fails with seed 2.
    """

    starts: list[tuple[float, int, int]] = []
    most = 99

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, folder = attempt, attempt.run_folder
        files = RunFolder(folder)
        write_json(attempt.job_file, {"cluster": "local", "job_id": "1"})
        write_json(attempt.started_file, {"cluster": "local", "started": time.time()})
        config, pause_at = files.read_config(), read_pause(files)
        rate, seed = config.training.learning_rate, config.seed
        before = files.read_state()
        start, end = before.step if before else 0, pause_at or 8
        self.starts.append((rate, seed, start))
        if len(self.starts) > self.most:
            raise KeyboardInterrupt
        if (rate, seed) == (3, 2):
            attempt.write_outcome(Outcome("failed", "row 7 has no label", error_type="DataError"))
            return
        with files.metrics.open("a") as stream:
            for step in range(start + 2, end + 1, 2):
                score = float("nan") if rate == 4 and step >= 2 else 50 + rate
                print(
                    json.dumps(
                        {"step": step, "split": "validation", "average": score, "toy-sentiment/acc": score}
                    ),
                    file=stream,
                )
        files.write_state(RunState("paused" if pause_at else "done", end, 8))
        if pause_at:
            attempt.write_outcome(Outcome("paused", f"paused after step {pause_at}"))
            return
        run = next(run for run in Sweep.load("s.yaml").plan.runs if folder.name.endswith(run.signature))
        leave(folder, config, result_of(run))
        attempt.write_outcome(Outcome("done"))

    def done(self) -> bool:
        return True

    def stop(self) -> None: ...


class RacingStarter(StartsHere):
    run = RacingJob


@pytest.fixture
def line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`sweep.py` in the test's folder and process, without trainings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local_queue, "LocalStarter", RacingStarter)
    monkeypatch.setattr(local_queue, "_TICK_S", 0.001)
    monkeypatch.setattr(RacingJob, "starts", [])
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*words: str) -> tuple[int, str]:
        code = sweep.main([*words, *(["--cluster", "local"] if words[0] in ("submit", "retry") else [])])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


def states() -> dict[str, tuple[str, int | None]]:
    """By learning rate and seed."""
    found = Sweep.load("s.yaml").statuses()
    return {entry.name.removeprefix("adapters_dagger-"): (entry.state, entry.step) for entry in found}


def test_a_race_is_interrupted_and_goes_on(
    line: Callable[..., tuple[int, str]], write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep(SWEEP.format(race=RACE))
    code, out = line("submit", "s.yaml", "-n")
    assert code == 0 and "race: 10 to step 2, 4 to step 4, 2 to the end; 36 of the 80 steps" in out, out

    # The queue is killed when all have paused, at the start of the first that moves on.
    monkeypatch.setattr(RacingJob, "most", 10)
    code, out = line("submit", "s.yaml", "--max-parallel", "1")
    assert code == 130, out
    assert [start for *_, start in RacingJob.starts[:10]] == [0] * 10
    assert states()["lr5-seed2"] == ("stopped", 2)
    code, out = line("why", "s.yaml")
    assert "it trains on if its setting is among the best there" in out
    code, out = line("submit", "s.yaml", "-n")
    assert "would start on this machine: adapters_dagger-lr5-seed2 (stopped)" in out
    assert "would leave: adapters_dagger-lr1-seed1 (paused)" in out

    monkeypatch.setattr(RacingJob, "most", 99)
    RacingJob.starts.clear()
    code, out = line("submit", "s.yaml", "--max-parallel", "1")
    assert code == 1, out  # a run has failed, again
    # Of five settings one has no number, and one lacks a seed. Of the other three one moves on at a time.
    assert "race: adapters_dagger learning_rate=4 cannot move on (at step 2" in line("status", "s.yaml")[1]
    assert states() == {
        "lr1-seed1": ("paused", 2), "lr1-seed2": ("paused", 2), "lr2-seed1": ("paused", 2), "lr2-seed2": ("paused", 2),
        "lr4-seed1": ("paused", 2), "lr4-seed2": ("paused", 2), "lr3-seed1": ("paused", 2),
        "lr3-seed2": ("failed", None), "lr5-seed1": ("done", 8), "lr5-seed2": ("done", 8),
    }  # fmt: skip
    assert sorted(RacingJob.starts) == [(3, 2, 0), (5, 1, 2), (5, 1, 4), (5, 2, 2), (5, 2, 4)]
    assert "learning_rate=5 of 5 settings" in out and "left by its race at step 2" in out
    for command in ("submit", "retry"):
        RacingJob.starts.clear()
        line(command, "s.yaml", "-y")
        assert RacingJob.starts == [(3, 2, 0)]  # none that the race has left

    # Without the race all train to their end.
    write_sweep(SWEEP.format(race=""))
    assert states()["lr1-seed1"] == ("stopped", 2)
    RacingJob.starts.clear()
    line("submit", "s.yaml")
    assert sorted(RacingJob.starts)[:3] == [(1, 1, 2), (1, 2, 2), (2, 1, 2)] and len(RacingJob.starts) == 8
    assert states()["lr1-seed1"] == ("done", 8)


def test_rungs_that_change(line: Callable[..., tuple[int, str]], write_sweep: Callable[..., Path]) -> None:
    grid = "grid: {{learning_rate: [1, 5], seed: [1]}}"
    text = SWEEP.replace("grid: {{learning_rate: [1, 5, 4, 3, 2], seed: [1, 2]}}", grid)
    write_sweep(text.format(race=RACE.replace("[2, 4]", "[2]")))
    line("submit", "s.yaml")
    assert states() == {"lr1": ("paused", 2), "lr5": ("done", 8)}
    # Who paused at a step that is no rung any more goes on to the next one.
    write_sweep(text.format(race=RACE.replace("[2, 4]", "[4]")))
    assert states() == {"lr1": ("stopped", 2), "lr5": ("done", 8)}
    line("submit", "s.yaml")
    assert states() == {"lr1": ("paused", 4), "lr5": ("done", 8)}


def test_cancel_ends_a_race(
    line: Callable[..., tuple[int, str]], write_sweep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has paused does not move on in the place of those that were cancelled, until a user wants it."""

    class Cancelled(RacingJob):
        def __init__(self, attempt: Attempt) -> None:
            if len(self.starts) == 2:  # in another terminal; two have paused, one starts, and one waits
                view = Sweep.load("s.yaml").view("*lr1")
                assert view.race_continues and not any(entry.is_active for entry in view.statuses)
                told.append(line("cancel", "s.yaml", "-y")[1])
            super().__init__(attempt)

    told: list[str] = []
    monkeypatch.setattr(RacingStarter, "run", Cancelled)
    text = SWEEP.replace(
        "learning_rate: [1, 5, 4, 3, 2], seed: [1, 2]", "learning_rate: [1, 5, 3, 2], seed: [1]"
    )
    write_sweep(text.format(race=RACE))
    line("submit", "s.yaml", "--max-parallel", "1")
    assert "end the race" in told[0] and "no run moves on by itself" in told[0]
    assert {start for *_, start in RacingJob.starts} == {0}
    assert {name: state for name, (state, _) in states().items()} == {
        "lr1": "paused", "lr5": "stopped", "lr3": "cancelled", "lr2": "cancelled",
    }  # fmt: skip  # of those that are left lr5 is the best: a submit would start it
    view = Sweep.load("s.yaml").view()
    assert not view.is_active and any("it was cancelled" in note for note in view.notes), view.notes

    monkeypatch.setattr(RacingStarter, "run", RacingJob)
    assert line("retry", "s.yaml", "-y")[0] == 0
    assert states() == {"lr1": ("paused", 2), "lr2": ("paused", 2), "lr3": ("paused", 4), "lr5": ("done", 8)}
    assert not Sweep.load("s.yaml").view().notes


@pytest.mark.parametrize(
    "queue, goes_on", [("PENDING", True), ("COMPLETED", False), ("", False), ("away", True)]
)
def test_a_race_goes_on_for_as_long_as_its_gate_waits(
    write_sweep: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    queue: str,
    goes_on: bool,
) -> None:
    """`status -w` waits for that, though all runs are paused."""
    monkeypatch.chdir(tmp_path)
    write_sweep(SWEEP.format(race=RACE))
    sweep = Sweep.load("s.yaml", cluster="slurm")
    sweep.ledger.commit("slurm")
    for run in sweep.plan.runs:
        folder = RunFolder(sweep.ledger.new_attempt(run).run_folder)
        write_json(folder.race, {"pause_at": 2})
        attempt = Attempt.of(folder.path, 1)
        write_json(attempt.started_file, {"cluster": "slurm", "started": 1.0})
        attempt.write_outcome(Outcome("paused", step=2))
    waits = GateRecord("waits", RACE_GATE, job_id="9", token="a")
    path = record.gate_file(sweep.ledger.path)
    record.write(path, waits)

    def query(keys: list[str]) -> dict[str, SlurmJob]:
        if queue == "away":
            raise ClusterError("squeue does not answer")
        return {"9": SlurmJob(queue)} if queue else {}

    monkeypatch.setattr(job_queue, "query", query)
    view = sweep.view()
    assert {entry.state for entry in view.statuses} == {"paused"}
    assert view.race_continues == view.is_active == goes_on and ("is gone" in "".join(view.notes)) != goes_on

    def acts(keys: list[str]) -> dict[str, SlurmJob]:
        if record.read(path) == before:
            record.write(path, GateRecord("waits", RACE_GATE, job_id="10", token="b"))
            return {}
        return {"10": SlurmJob("PENDING")}

    before = record.read(path)
    monkeypatch.setattr(job_queue, "query", acts)
    view = sweep.view()
    assert view.race_continues and "job 10 decides which settings move on" in "".join(view.notes)
    record.write(path, GateRecord("over", RACE_GATE))
    assert not sweep.view().is_active


def test_no_sweep_waits_for_a_race(
    line: Callable[..., tuple[int, str]], write_sweep: Callable[..., Path]
) -> None:
    raced = write_sweep(SWEEP.format(race=RACE))
    raced.with_name("t.yaml").write_text(raced.read_text().partition("race:")[0] + "after: s.yaml\n")
    code, out = line("submit", "t.yaml")
    assert code == 2 and "after: is a race, whose end cannot be waited for; start this sweep when" in out, out
    assert not RacingJob.starts
