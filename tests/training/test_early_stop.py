"""A run ends early when its validation no longer improves, at the same step however often it was interrupted."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from training.forked_runs import ForkedRuns
from training.test_resume import assert_same, lines

from hyperformer.errors import ConfigError
from hyperformer.settings.build import make_config
from hyperformer.settings.schema import TrainingConfig
from hyperformer.settings.signature import signature
from hyperformer.training.train_state import TrainState

# No validation is 100 points above the first one: patience ends at the third, at step 6.
STOPS = {
    "max_steps": 20,
    "eval_steps": 2,
    "early_stop": 2,
    "early_stop_min_delta": 100.0,
    "lr_scheduler": "constant",
    "learning_rate": 0.1,  # so large that the model answers nothing that is a label
    "tasks": ["toy-sentiment"],
}


def test_a_run_that_stops_early(runs: ForkedRuns, tmp_path: Path) -> None:
    whole = runs.whole(tmp_path / "whole", **STOPS)
    why = "early_stop: the last 2 evaluations brought no better validation average than "
    assert f"step 6/20  {why}" in whole.out and "at the earliest at step 6\n" in whole.out
    result = json.loads((tmp_path / "whole/result.json").read_text())
    assert result["steps"] == 6 and re.fullmatch(f"{why}.*; stopped at step 6 of 20", result["stopped_early"])
    told = [line for line in whole.out.splitlines() if "is answered with one class" in line]
    assert [line.split()[1] for line in told] == ["6/20"]  # before, less than half of the steps were done
    assert f"one class, {result['one_class']['last']['toy-sentiment']!r}: the model does not" in told[0]
    averages = {line["step"]: line["average"] for line in lines(tmp_path / "whole") if "average" in line}
    assert [*averages] == [2, 4, 6] and result["validation_average"] == max(averages.values())
    assert averages[result["best_step"]] == result["validation_average"]
    state = json.loads((tmp_path / "whole/state.json").read_text())
    assert (state["phase"], state["step"], state["max_steps"], state["seconds_left"]) == ("done", 6, 6, 0)

    # Resumed with one validation counted.
    assert runs.run(tmp_path / "cut", at=("step", 5), signal=signal.SIGTERM, **STOPS).codes == [143]
    runs.whole(tmp_path / "cut", **STOPS)
    assert_same(tmp_path / "whole", tmp_path / "cut")

    # The end at 5 brings a validation that would use up the patience; the longer run does not have it.
    short = runs.whole(tmp_path / "longer", **STOPS | {"max_steps": 5})
    assert "at the earliest at step 6: never, as the run has 5\n" in short.out and why not in short.out
    # Killed in the test, after the stop, which is final even where more steps are allowed then.
    killed = runs.run(tmp_path / "longer", at=("batch", 6), **STOPS)
    assert killed.codes == [-9] and why in killed.out
    runs.whole(tmp_path / "longer", **STOPS | {"max_steps": 30})
    assert_same(tmp_path / "whole", tmp_path / "longer")

    # All ranks stop at the same step.
    assert why in runs.whole(tmp_path / "ranks", ranks=2, **STOPS).out


@pytest.mark.parametrize(
    ("averages", "min_delta", "not_better"),
    [
        ([50.0, 51.0, 51.0, 50.0], 0.0, 2),  # as high is not better
        ([50.0, 50.4, 50.8, 51.2], 0.5, 1),  # small rises add up to one that counts, at 50.8
        ([50.0, 49.0, 60.0], 1.0, 0),
    ],
)
def test_what_counts_as_better(averages: list[float], min_delta: float, not_better: int) -> None:
    state = TrainState(step=8)
    for average in averages:
        state.count_validation(average, min_delta)
    assert state.not_better == not_better
    settings = TrainingConfig(early_stop=not_better + 1, max_steps=10)
    assert not state.is_over(settings)
    state.count_validation(averages[0], min_delta)
    assert state.is_over(settings) and state.stopped_early(settings)
    state.step = 10
    assert state.is_over(settings) and state.stopped_early(settings) is None


def test_the_settings() -> None:
    tasks = {"tasks": ["rte"]}
    off = signature(make_config(tasks))
    assert off == signature(make_config({**tasks, "early_stop": None, "early_stop_min_delta": 0}))
    assert len({off, *(signature(make_config({**tasks, "early_stop": number})) for number in (1, 2))}) == 3
    for values, told in (
        ({"early_stop": 0}, "greater than 0"),
        ({"early_stop": True}, "a whole number"),
        ({"early_stop": 2, "do_eval": False}, "do_eval is false"),
        ({"early_stop_min_delta": 0.5}, "early_stop is not given"),
        ({"early_stop": 2, "early_stop_min_delta": -1}, "must be 0 to 100 points"),
    ):
        with pytest.raises(ConfigError, match=told):
            make_config({**tasks, **values})
