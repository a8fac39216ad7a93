"""An evaluation that has too little memory; the errors are those of torch's own allocator."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training.forked_runs import ForkedRuns
from training.test_ranks import differences, losses
from training.test_stop import read_state

from hyperformer.errors import EvaluationOutOfMemory
from hyperformer.files import read_json
from hyperformer.training.memory.out_of_memory import RowLimit, is_out_of_memory

BATCH = {"input_ids": torch.arange(20).reshape(10, 2)}


class Greedy:
    """Answers a row by its first number; more rows than `most` ask for more memory than there is."""

    def __init__(self, most: int) -> None:
        self.most, self.tried = most, list[int]()

    def __call__(self, part: Mapping[str, Tensor]) -> list[str]:
        rows = part["input_ids"]
        self.tried.append(len(rows))
        if len(rows) > self.most:
            torch.empty(1 << 60)
        return [str(int(row[0])) for row in rows]


def test_a_batch_is_halved_until_it_fits() -> None:
    told: list[str] = []
    limit, greedy = RowLimit(told.append), Greedy(3)
    expected = [str(2 * row) for row in range(10)]
    assert limit.answer(BATCH, greedy) == expected
    assert greedy.tried == [10, 5, 3, 3, 3, 1] and limit.rows == 3
    assert [line.partition(":")[2] for line in told] == [
        " 5 rows per forward from now on instead of 10; the answers stay the same",
        " 3 rows per forward from now on instead of 5; the answers stay the same",
    ]
    assert limit.answer(BATCH, greedy) == expected and len(told) == 2  # it is not tried again


def test_where_it_cannot_be_halved() -> None:
    limit = RowLimit(lambda line: None)
    with pytest.raises(EvaluationOutOfMemory, match="can't allocate memory"):
        limit.answer(BATCH, Greedy(0))
    assert limit.rows == 1
    limit, greedy = RowLimit(lambda line: None, in_place=False), Greedy(9)
    with pytest.raises(EvaluationOutOfMemory):
        limit.answer(BATCH, greedy)
    assert greedy.tried == [10]


def test_other_errors_are_not_taken_for_it() -> None:
    for error in (RuntimeError("shapes differ"), ValueError("out of memory"), KeyError("x")):
        assert not is_out_of_memory(error)
    for error in (torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("CUDA error: out of memory")):
        assert is_out_of_memory(error)


def test_a_run_recovers_in_the_check_and_in_evaluation(runs: ForkedRuns, tmp_path: Path) -> None:
    """From step 3 on rank 0 has memory for two rows at once: in the check before a step, and in evaluations.

    The last start is on two ranks, of which the other has enough.
    """
    settings = {"dropout": 0.0, "logging_steps": 1, "per_device_eval_batch_size": 4}
    runs.whole(tmp_path / "whole", **settings)
    runs.run(tmp_path / "run", at=("step", 3), signal=signal.SIGTERM, **settings)
    failed = runs.run(tmp_path / "run", at=("rows", 2), memory_check=True, **settings)
    assert failed.codes == [2] and "error: OutOfMemory: " in failed.out and "can't allocate" in failed.out
    assert "(micro-batch split: 2 rows instead of 4," in failed.out
    assert "activations of 4 rows of " in failed.out and "zero_stage" not in failed.out
    state = read_state(tmp_path / "run")
    assert (state["phase"], state["micro_batch_parts"]) == ("failed", 1)
    ended = runs.whole(tmp_path / "run", at=("rows", 2), ranks=2, memory_check=True, **settings)
    assert "2 rows x 1 forwards x 2 ranks" in ended.out and "memory check: the longest rows fit" in ended.out
    assert ended.out.count("out of memory in an evaluation: 2 rows per forward from now on instead of 4") == 1
    loss, weights = differences(tmp_path / "whole", tmp_path / "run")
    assert len(losses(tmp_path / "run")) == 8 and loss < 1e-4 and weights < 1e-3
    assert read_json(tmp_path / "run/recovery.json") == {"micro_batch_parts": 2, "eval_rows": 2, "schema": 1}
    results = [read_json(tmp_path / name / "result.json") for name in ("whole", "run")]
    assert [result["eval_rows"] for result in results] == [None, 2]
    assert results[0]["test"] == results[1]["test"]
