"""Runs of several ranks, and runs that resume on another number of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from training.forked_runs import ForkedRuns
from training.test_resume import DEEPSPEED, assert_same

from hyperformer.answers.verify import verify_run

# So many rows that batches of evaluation are filled up, on any number of ranks.
ELASTIC = {"dropout": 0.0, "per_device_train_batch_size": 2, "logging_steps": 1, "n_val": 5, "n_test": 7}


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["split"] == "train"]


def differences(one: Path, other: Path) -> tuple[float, float]:
    """Largest relative difference of the losses, and of the weights (to each tensor's largest)."""
    first, second = (load_file(folder / "adapter/hyperformer_adapter.safetensors") for folder in (one, other))
    weights = max(
        float((value - second[name]).abs().max() / value.abs().max().clamp(min=1e-8))
        for name, value in first.items()
    )
    pairs = list(zip(losses(one), losses(other), strict=True))
    return max(abs(a - b) / abs(a) for a, b in pairs), weights


@pytest.fixture(scope="module")
def four_ranks(runs: ForkedRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four") / "run"
    runs.whole(folder, ranks=4, **ELASTIC)
    return folder


# Stage 2 divides the state as stage 1 does, stage 0 does not divide it, and test_saved_shards reads stage 3's parts.
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "stage", [pytest.param(0, marks=SLOW), 1, pytest.param(2, marks=SLOW), pytest.param(3, marks=SLOW)]
)
def test_a_run_resumes_on_fewer_and_on_more_ranks(
    stage: int, runs: ForkedRuns, four_ranks: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    settings = {**ELASTIC, "zero_stage": stage}
    for ranks, expected in ((4, ""), (2, "2 forwards x 2 ranks"), (1, "4 forwards x 1 ranks")):
        ended = runs.run(folder, ranks=ranks, at=("step", 2), signal=signal.SIGTERM, **settings)
        assert set(ended.codes) == {143}, ended.out
        assert not expected or f"global batch of 8 rows as 2 rows x {expected}" in ended.out
    ended = runs.whole(folder, ranks=4, **settings)
    loss, weights = differences(four_ranks, folder)
    print(f"stage {stage}, 4 -> 2 -> 1 -> 4 ranks: losses {loss:.1e}, weights {weights:.1e}")
    assert loss < 1e-4 and weights < 1e-3
    assert len(losses(folder)) == 8
    found, first = verify_run(folder), verify_run(four_ranks)
    assert found.findings == first.findings == ()
    assert {split: len(rows) for (split, _), rows in found.answers.items()} == {"validation": 5, "test": 7}
    assert all(rows.hashes == first.answers[key].hashes for key, rows in found.answers.items())


@pytest.mark.parametrize(
    "stage",
    [
        {"zero_stage": 2},
        pytest.param(
            {"zero_stage": 1, "deepspeed_config": str(DEEPSPEED / "deepspeed_zero_offload.json")},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["zero", "offload"],
)
def test_two_ranks_with_dropout_resume_bit_identical(
    stage: dict[str, Any], runs: ForkedRuns, tmp_path: Path
) -> None:
    settings = {**stage, "gradient_accumulation_steps": 2, "ranks": 2}
    runs.whole(tmp_path / "whole", **settings)
    runs.run(tmp_path / "cut", at=("step", 1), signal=signal.SIGTERM, memory_check=True, **settings)
    runs.run(tmp_path / "cut", at=("step", 5), **settings)
    ended = runs.run(tmp_path / "cut", at=("batch", 2), signal=signal.SIGTERM, **settings)
    assert set(ended.codes) == {143}, ended.out
    runs.whole(tmp_path / "cut", **settings)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_ranks_that_cannot_share_the_batch(runs: ForkedRuns, tmp_path: Path) -> None:
    runs.run(tmp_path / "run", at=("step", 1), signal=signal.SIGTERM)
    ended = runs.run(tmp_path / "run", ranks=3)
    assert 2 in ended.codes
    assert "global batch of 4 rows, which 3 ranks cannot share evenly; 1, 2, 4 would fit" in ended.out


@pytest.mark.slow
def test_ranks_wait_long_for_the_first_step_and_not_for_the_next(runs: ForkedRuns, tmp_path: Path) -> None:
    """Rank 0 loads for longer than a step may take; later it hangs, and rank 1 finds that by the timeout."""
    limits = {"hang_minutes": 0, "start_timeout_minutes": 2, "step_timeout_minutes": 0.02}
    ended = runs.run(tmp_path / "run", ranks=2, slow=1.0, at=("hang", 3), **limits)
    assert "training rows" in ended.out, ended.out
    # The other rank slept on; the harness ended it.
    assert ended.codes == [-signal.SIGKILL, 2], ended.out
    assert "error: Hang: rank 1 waited in vain for another rank" in ended.out
    assert "step_timeout_minutes" in ended.out and "Traceback" not in ended.out
