"""For the tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from training.forked_runs import ForkedRuns


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedRuns]:
    """Starts short runs without importing everything for each."""
    forked = ForkedRuns(tmp_path_factory.mktemp("runs"))
    yield forked
    forked.close()
