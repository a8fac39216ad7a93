"""A run that pauses for a race ends bit-identical to one that never paused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training.forked_runs import PAUSED, ForkedRuns
from training.test_resume import assert_same

from hyperformer.errors import ConfigError
from hyperformer.run_files.pause import check_pause, read_pause, write_pause
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import make_config

# No rung is a multiple of save_steps, and the learning rate of every step depends on max_steps.
SETTINGS = {"tasks": ["toy-sentiment"], "eval_steps": 2, "save_steps": 3, "lr_scheduler": "linear"}


def test_a_run_that_pauses(runs: ForkedRuns, tmp_path: Path) -> None:
    runs.whole(tmp_path / "whole", **SETTINGS)
    paused = tmp_path / "paused"
    # A start that is to pause where it is already takes no step.
    for step in (4, 2):
        ended = runs.run(paused, pause_at=step, **SETTINGS)
        assert ended.codes == [PAUSED] and "paused after step 4" in ended.out
        state = json.loads((paused / "state.json").read_text())
        assert (state["phase"], state["step"], state["error"]) == ("paused", 4, None)
        assert (paused / "checkpoints/latest").read_text() == "step-4"
        assert not (paused / "result.json").exists()
    runs.whole(paused, pause_at=8, **SETTINGS)  # its last step: nothing to pause for
    assert_same(tmp_path / "whole", paused)


def test_all_ranks_pause(runs: ForkedRuns, tmp_path: Path) -> None:
    assert runs.run(tmp_path / "run", ranks=2, pause_at=2, **SETTINGS).codes == [PAUSED, PAUSED]


@pytest.mark.parametrize("values", [{"eval_steps": 3}, {"do_eval": False}])
def test_a_run_pauses_after_a_validation_only(values: dict[str, object]) -> None:
    config = make_config({"tasks": ["toy-sentiment"], "eval_steps": 2, **values})
    with pytest.raises(ConfigError, match="pause_at is 4, but a run pauses after a validation"):
        check_pause(config, 4)


def test_the_file_that_says_where_to_pause(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_pause(folder) is None
    for step in (4, None):
        write_pause(folder, step)
        assert read_pause(folder) == step
    for text in ("[]", "{}", '{"pause_at": 0}', '{"pause_at": "4"}', '{"pause_at": true}', "{"):
        folder.race.write_text(text)
        with pytest.raises(ValueError, match="race.json"):
            read_pause(folder)
