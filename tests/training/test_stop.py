"""What ends a run before its end: the deadline, a full disk, a loss that is none, a hang; and micro-batches split."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from training.forked_runs import ForkedRuns
from training.test_ranks import differences, losses
from training.test_resume import assert_same

from hyperformer.errors import HANG_EXIT
from hyperformer.run_files.recovery import split_micro_batch, step_back
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.training import signals
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.signals import StopFlag

ALONE = DistributedContext(0, 0, 1, torch.device("cpu"))


def read_state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "state.json").read_text())


def test_the_lead_is_what_is_going_on_and_a_save_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopFlag(deadline=time.time() + 100)
    assert stop.margin_s(ALONE) == signals.SAFETY_MARGIN_S and stop.agreed_signal(ALONE) == 0
    for what, seconds in (("step", 2.0), ("step", 1.0), ("batch", 4.0), ("save", 30.0)):
        stop.record_duration(what, seconds)  # type: ignore[arg-type]
    assert stop.margin_s(ALONE) == 2 * 4 + 2 * 30 + signals.SAFETY_MARGIN_S
    assert stop.agreed_signal(ALONE) == 0
    stop.record_duration("batch", 16.0)
    assert stop.agreed_signal(ALONE) == signal.SIGUSR2
    # Several ranks look every few steps: long steps bring the looks closer, and count as often.
    many = DistributedContext(0, 0, 4, torch.device("cpu"))
    for seconds, steps in ((0.01, 8), (1.0, 5), (30.0, 1)):
        stop = StopFlag(deadline=1.0)
        stop.record_duration("step", seconds)
        assert stop.margin_s(many) == pytest.approx(2 * steps * seconds + signals.SAFETY_MARGIN_S)


def test_signals_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM may send its signals twice, and one after the other; who presses Ctrl-C twice means it."""
    raised: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    stop = StopFlag()
    for number in (signal.SIGUSR2, signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        stop.set(number, None)
    assert not raised and stop.signal == signal.SIGUSR2  # the first tells why
    stop = StopFlag()
    for _ in range(2):
        stop.set(signal.SIGINT, None)
    assert not raised  # one Ctrl-C, passed on by the process that started the run
    monkeypatch.setattr(signals, "_SAME_SECONDS", 0.0)
    stop.set(signal.SIGINT, None)
    assert raised == [signal.SIGINT]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_stops_ahead_of_its_deadline_before_its_first_step(
    ranks: int, runs: ForkedRuns, tmp_path: Path
) -> None:
    ended = runs.run(tmp_path / "run", ranks=ranks, deadline=time.time() + 5)
    assert set(ended.codes) == {128 + signal.SIGUSR2}, ended.out
    assert "stopped by SIGUSR2 after step 0" in ended.out
    assert read_state(tmp_path / "run")["phase"] == "stopped"
    assert not list((tmp_path / "run/checkpoints").iterdir())


def test_stopped_in_the_test_evaluation(runs: ForkedRuns, tmp_path: Path) -> None:
    runs.whole(tmp_path / "whole")
    # 2 validations of 2 tasks of 4 batches, and one batch of the test.
    stopped = runs.run(tmp_path / "run", at=("batch", 17), signal=signal.SIGTERM)
    assert stopped.codes == [143] and not (tmp_path / "run/result.json").exists()
    runs.whole(tmp_path / "run")
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_loss_that_is_no_number_is_never_saved(runs: ForkedRuns, tmp_path: Path) -> None:
    settings = {
        "learning_rate": 1e9,
        "save_steps": 1,
        "eval_steps": 8,
        "warmup_steps": 0,
        "logging_steps": 8,
    }
    ended = runs.run(tmp_path / "run", **settings)
    assert ended.codes == [2] and "error: Diverged: " in ended.out, ended.out
    assert read_state(tmp_path / "run")["error"].startswith("Diverged: ")
    at = read_state(tmp_path / "run")["step"]
    checkpoints = tmp_path / "run/checkpoints"
    saved = sorted(path.name for path in checkpoints.glob("step-*"))
    assert saved and f"step-{at}" not in saved
    line = step_back(RunFolder(tmp_path / "run"))
    assert (checkpoints / f".diverged-{saved[-1]}").is_dir() and saved[-1] in line
    again = runs.run(tmp_path / "run", **settings)
    assert len(saved) == 1 or f"resuming from {saved[-2].replace('-', ' ')} of" in again.out


def test_no_room_for_a_checkpoint(runs: ForkedRuns, tmp_path: Path) -> None:
    """No file may be larger than 64 kB: the system's own refusal, as of a quota (EFBIG stands in for it)."""
    ended = runs.run(tmp_path / "run", limits={"RLIMIT_FSIZE": 1 << 16})
    assert ended.codes == [2] and "error: CheckpointError: the checkpoint of step" in ended.out, ended.out
    assert "could not be written: OSError: File too large" in ended.out and "pace" not in ended.out
    assert "Traceback" not in ended.out
    assert not list((tmp_path / "run/checkpoints").glob("*step*"))


def test_a_run_that_hangs_ends_itself(runs: ForkedRuns, tmp_path: Path) -> None:
    """Stopped threads can tell nothing; a run whose training thread sleeps can."""
    ended = runs.run(tmp_path / "run", at=("hang", 3), hang_minutes=0.02)
    assert ended.codes == [HANG_EXIT], ended.out
    assert "Hang: nothing moved" in ended.out and "Thread" in ended.out and "forked_runs.py" in ended.out
    state = read_state(tmp_path / "run")
    assert state["phase"] == "failed" and state["error"].startswith("Hang:")
    assert (tmp_path / "run/heartbeat").exists()
    runs.whole(tmp_path / "run", hang_minutes=0.5)


def test_split_micro_batches_train_the_same(runs: ForkedRuns, tmp_path: Path) -> None:
    """With a sum; with a mean, other numbers of forwards are in test_ranks.py and test_out_of_memory.py."""
    settings = {"dropout": 0.0, "logging_steps": 1, "loss_reduction": "sum"}
    runs.whole(tmp_path / "whole", **settings)
    runs.run(tmp_path / "run", at=("step", 3), signal=signal.SIGTERM, **settings)
    assert "2 rows instead of 4" in split_micro_batch(RunFolder(tmp_path / "run"))
    ended = runs.whole(tmp_path / "run", **settings)
    assert "2 rows x 2 forwards x 1 ranks" in ended.out
    loss, weights = differences(tmp_path / "whole", tmp_path / "run")
    print(f"losses {loss:.1e}, weights {weights:.1e}")
    assert len(losses(tmp_path / "run")) == 8 and loss < 1e-4 and weights < 1e-3
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "run")]
    assert [result["micro_batch_parts"] for result in results] == [1, 2]
    assert results[0]["signature"] == results[1]["signature"]
    assert read_state(tmp_path / "run")["micro_batch_parts"] == 2
