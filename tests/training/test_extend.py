"""A run that is done and made longer equals one of that length from the start, bit by bit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from training.forked_runs import ForkedRuns
from training.test_resume import assert_same

from hyperformer.run_files.checkpoint_folder import CheckpointFolder, checksum
from hyperformer.training.train_state import TrainState

CONSTANT = {"lr_scheduler": "constant_w_warmup"}


# The end brings a validation, a log line and a checkpoint of its own at 7; at 4, all but the checkpoint are due.
@pytest.mark.parametrize(
    ("lengths", "settings"),
    [
        ((7, 14), CONSTANT),
        ((4, 11), {"lr_scheduler": "constant", "save_total_limit": 1}),
        (
            (5, 7, 9),
            {**CONSTANT, "zero_stage": 2, "gradient_accumulation_steps": 2, "save_in_background": True},
        ),
        ((7, 12), {**CONSTANT, "eval_steps": 100}),
        ((3, 8), {**CONSTANT, "do_eval": False}),
        ((7, 14), {**CONSTANT, "ranks": 2}),
    ],
    ids=["uneven", "even", "twice", "validated at its end alone", "no validation", "two ranks"],
)
def test_a_longer_run(
    lengths: tuple[int, ...], settings: dict[str, Any], runs: ForkedRuns, tmp_path: Path
) -> None:
    runs.whole(tmp_path / "whole", max_steps=lengths[-1], **settings)
    for before, steps in zip((0, *lengths), lengths, strict=False):
        ended = runs.whole(tmp_path / "run", max_steps=steps, **settings)
        assert not before or f"resuming from step {before} of {steps}" in ended.out
        assert json.loads((tmp_path / "run/config.json").read_text())["settings"]["max_steps"] == steps
    assert_same(tmp_path / "whole", tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run").glob("result-*"))
    assert kept == sorted(f"result-{steps}-steps.json" for steps in lengths[:-1])
    assert "already done" in runs.whole(tmp_path / "run", max_steps=lengths[-1], **settings).out


def test_the_best_weights_before_the_end_are_kept(tmp_path: Path) -> None:
    state = TrainState(evaluated_step=5, best_step=5, best_file=["best-5.safetensors", "x"])
    state.remember_end()
    state.evaluated_step, state.best_step, state.best_file = 7, 7, ["best-7.safetensors", "y"]
    folder = CheckpointFolder(tmp_path)
    for name, _ in [*state.best_files, ["best-2.safetensors", ""]]:
        (tmp_path / name).touch()
    folder.prune(1, spare={name for name, _ in state.best_files})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-5.safetensors", "best-7.safetensors"]
    state.forget_end()
    assert (state.evaluated_step, state.best_step, state.best_file) == (5, 5, ["best-5.safetensors", "x"])
    assert state.best_files == [state.best_file] and state.before_end is None


def test_stopped_at_the_end_and_then_made_longer(runs: ForkedRuns, tmp_path: Path) -> None:
    """Killed in the test after the last step, and continued with more steps."""
    runs.whole(tmp_path / "whole", max_steps=12, **CONSTANT)
    killed = runs.run(tmp_path / "run", max_steps=7, at=("batch", 17), **CONSTANT)
    assert killed.codes == [-9] and not (tmp_path / "run/result.json").exists()
    runs.whole(tmp_path / "run", max_steps=12, **CONSTANT)
    assert_same(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"max_steps": 9},
            r"max_steps \(7 there, 9 now\)\. With lr_scheduler=linear .* depends on max_steps",
        ),
        (
            {"max_steps": 5, "lr_scheduler": "constant"},
            r"lr_scheduler .* max_steps|max_steps .* lr_scheduler",
        ),
    ],
)
def test_what_is_another_run_is_refused(
    changes: dict[str, Any], told: str, runs: ForkedRuns, tmp_path: Path
) -> None:
    runs.whole(tmp_path / "run", max_steps=7)
    before = (tmp_path / "run/result.json").read_bytes()
    ended = runs.run(tmp_path / "run", **changes)
    assert ended.codes == [2] and re.search(told, ended.out), ended.out
    assert (tmp_path / "run/result.json").read_bytes() == before


def test_fewer_steps_and_more_than_steps_are_another_run(runs: ForkedRuns, tmp_path: Path) -> None:
    runs.whole(tmp_path / "run", max_steps=7, **CONSTANT)
    for changes in ({"max_steps": 6}, {"max_steps": 9, "seed": 1}):
        ended = runs.run(tmp_path / "run", **{**CONSTANT, **changes})
        assert ended.codes == [2] and "holds a run with other settings" in ended.out
        assert "depends on max_steps" not in ended.out


def test_a_run_that_ended_under_an_earlier_version(runs: ForkedRuns, tmp_path: Path) -> None:
    """Its last validation is in its state, and what was before is not: no longer run is bit-identical."""
    runs.whole(tmp_path / "run", max_steps=7, **CONSTANT)
    folder = CheckpointFolder(tmp_path / "run/checkpoints")
    path = folder.path / "step-7/progress.json"
    values = json.loads(path.read_text())
    del values["progress"]["before_end"]
    path.write_text(json.dumps(values))
    manifest = folder.manifest("step-7")
    manifest.files["progress.json"] = [path.stat().st_size, checksum(path)]
    folder.write_manifest("step-7", manifest)
    ended = runs.run(tmp_path / "run", max_steps=9, **CONSTANT)
    assert ended.codes == [2] and "ended under an earlier version" in ended.out, ended.out
