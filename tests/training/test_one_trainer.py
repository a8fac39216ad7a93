"""A run has one trainer, and its ranks know the same: what rank 0 finds, all are told."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
from training.forked_runs import ForkedRuns

from hyperformer import finetune_t5_trainer
from hyperformer.errors import RunInUse
from hyperformer.run_files.run_lock import hold


def test_every_rank_is_told_that_another_trains(runs: ForkedRuns, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with hold(folder):
        ended = runs.run(folder, ranks=2)
        assert ended.codes == [2, 2]
        assert ended.out.count(f"error: RunInUse: {folder} is being trained by process {os.getpid()} on") == 2
        assert [path.name for path in folder.iterdir()] == [".trainer.lock"]
    runs.whole(folder, ranks=2)


@pytest.mark.parametrize("name", ["config.json", "result.json", "recovery.json", "state.json"])
def test_a_damaged_file_is_every_ranks_error(name: str, runs: ForkedRuns, tmp_path: Path) -> None:
    """No rank waits for one that has left."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).write_text('{"half')
    ended = runs.run(folder, ranks=2)
    if name == "state.json":  # only told from: the run writes a new one
        assert ended.codes == [0, 0], ended.out
    else:
        assert ended.codes == [2, 2] and ended.out.count(f"error: FileError: {folder / name}") == 2, ended.out


def test_the_exit_code_of_a_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import hyperformer.run

    def refuse(*_: Any) -> None:
        raise RunInUse("x is being trained")

    monkeypatch.setattr(hyperformer.run, "run", refuse)
    arguments = argparse.Namespace(config="hyperformer++", overrides=["tasks=rte"], local_rank=None)
    assert finetune_t5_trainer.train(arguments) == finetune_t5_trainer.EXIT_IN_USE == 75
    assert capsys.readouterr().err == "error: x is being trained\n"


def test_what_one_rank_cannot_load_ends_all(runs: ForkedRuns, tmp_path: Path) -> None:
    ended = runs.run(tmp_path / "run", ranks=2, model_name_or_path=str(tmp_path / "none"))
    assert ended.codes == [2, 2] and ended.out.count("error: CheckpointError: the config of") == 2, ended.out
