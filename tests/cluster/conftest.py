"""Tests on a real SLURM; left out, and said, where none can be started."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "launchers"))  # sweep_command

from slurm_cluster import SlurmCluster, why_not
from sweep_command import CommandLine


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    reason = why_not()
    if reason:
        pytest.skip(f"NO TEST ON A REAL SLURM: {reason}")
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def slurm_line(slurm_cluster: SlurmCluster, tmp_path: Path) -> CommandLine:
    """The command line on that cluster."""
    line = CommandLine(tmp_path)
    line.environment |= {key: slurm_cluster.environment[key] for key in ("PATH", "SLURM_CONF")}
    return line
