"""The answers of a run: damaged ones are made again, and a longer run keeps those of the shorter."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training.forked_runs import ForkedRuns

from hyperformer.answers.verify import verify_run
from hyperformer.cli import main
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.training.evaluation import Evaluation
from hyperformer.training.loop import Trainer
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.train_state import TrainState


def test_damaged_answers_of_the_validation_are_made_again(runs: ForkedRuns, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # In the first batch of the test, after two validations of 8 batches each.
    killed = runs.run(folder, at=("batch", 17), eval_steps=4, max_steps=8)
    assert killed.codes == [-9] and not (folder / "result.json").exists()
    first, second = sorted((folder / "answers").iterdir())
    before = [path.read_bytes() for path in (first, second)]
    first.write_bytes(before[0][:-1])
    second.unlink()
    runs.whole(folder, eval_steps=4, max_steps=8)
    assert [path.read_bytes() for path in (first, second)] == before
    assert verify_run(folder).findings == () and len(verify_run(folder).answers) == 4
    assert main(["rescore", str(folder)]) == 0


def test_answers_that_come_out_otherwise_are_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fake trainer: the same weights with another answer cannot be had at will."""
    state = TrainState(
        best_step=4, best_metrics={"rte": {"acc": 50.0}}, best_answers={"rte": {"file": "gone"}}
    )
    again = Evaluation({"rte": {"acc": 75.0}}, {})
    alone = DistributedContext(rank=0, local_rank=0, size=1, device=torch.device("cpu"))
    fake = SimpleNamespace(state=state, context=alone, _evaluate=lambda *_: again)
    Trainer._renew_answers(fake, SimpleNamespace(folder=RunFolder(tmp_path)), None)  # type: ignore[arg-type]
    assert state.best_answers == {} and state.best_metrics == {"rte": {"acc": 50.0}}
    assert "the answers of the validation at step 4 are not kept" in capsys.readouterr().out


def test_a_longer_run_keeps_the_answers_of_the_shorter(runs: ForkedRuns, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = {"lr_scheduler": "constant", "eval_steps": 2, "tasks": ["toy-sentiment"]}
    runs.whole(folder, max_steps=2, **settings)
    answers = {path.name: path.read_bytes() for path in (folder / "answers").iterdir()}
    runs.whole(folder, max_steps=4, **settings)
    assert {path.name: path.read_bytes() for path in (folder / "answers-2-steps").iterdir()} == answers
    earlier = json.loads((folder / "result-2-steps.json").read_text())
    assert set(answers) == {
        entry["file"] for split in earlier["answers"].values() for entry in split.values()
    }
    assert verify_run(folder).findings == ()
