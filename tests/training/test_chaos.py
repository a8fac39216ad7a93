"""Killed at random, a run ends as if nothing had been; `make chaos` does it a hundred times."""

from __future__ import annotations

from pathlib import Path

import chaos
from training.forked_runs import ForkedRuns


def test_a_few_random_kills(runs: ForkedRuns, tmp_path: Path) -> None:
    kills = chaos.chaos(runs, tmp_path, 3, seed=1)
    print(chaos.table(kills))
    assert len(kills) == 3
