"""umT5 and ByT5 through the whole of a run: trained by the engine, interrupted, resumed, loaded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from base_families import make_family
from training.forked_runs import ForkedRuns
from training.test_resume import assert_same

from hyperformer.adapters.trained_model import load_trained
from hyperformer.commands.predict import Predictor


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        # Its code is ByT5's but for the bias per layer, which test_base_families.py holds.
        pytest.param("umt5", {"decode": "rank", "unfreeze_lm_head": True}, marks=pytest.mark.slow),
        # Lengths are in bytes.
        ("byt5", {"decode": "generate", "max_source_length": 60, "zero_stage": 2, "precision": "bf16"}),
    ],
)
def test_a_run(family: str, settings: dict[str, Any], runs: ForkedRuns, tmp_path: Path) -> None:
    settings |= {"model_name_or_path": make_family(tmp_path / "base", family), "tasks": ["toy-sentiment"]}
    settings |= {"max_steps": 4, "eval_steps": 2, "save_steps": 1}
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    ended = runs.run(whole, **settings)
    assert ended.codes == [0], ended.out
    assert ("sources cut at max_source_length=60 tokens" in ended.out) == (family == "byt5")
    runs.run(interrupted, at=("step", 3), **settings)
    assert runs.run(interrupted, **settings).codes == [0]
    assert_same(whole, interrupted)
    predictor = Predictor(load_trained(whole / "adapter"), "toy-sentiment", decode="rank")
    assert set(predictor.answers(["the men were good"])) <= set(predictor.task.labels or ())
    assert json.loads((whole / "result.json").read_text())["test"]["toy-sentiment"].keys() == {"acc"}
