"""Tests on a real SLURM; left out, and said loudly, where none can be started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "launchers"))  # sweep_command

from slurm_cluster import SecondCluster, SlurmCluster, why_no_accounting, why_not
from sweep_command import CommandLine

_left_out: dict[str, str] = {}


def _leave_out(what: str, reason: str) -> None:
    if os.environ.get("HYPERFORMER_REQUIRE_SLURM"):  # CI: a test that does not run is no test
        pytest.fail(f"{what}: {reason}")
    _left_out[what] = reason
    pytest.skip(f"{what}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for what, reason in _left_out.items():
        terminalreporter.section("LEFT OUT", sep="!", red=True, bold=True)
        terminalreporter.line(f"{what} WAS TESTED: {reason}")


def _running(cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """Four nodes, no accounting."""
    reason = why_not()
    if reason:
        _leave_out("NOTHING ON A REAL SLURM", reason)
    yield from _running(SlurmCluster(tmp_path_factory.mktemp("slurm")))


@pytest.fixture(scope="session")
def accounting_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """With sacct, accounts and limits; squeue forgets ended jobs at once, and arrays are short."""
    reason = why_not() or why_no_accounting()
    if reason:
        _leave_out("NOTHING WITH SLURM'S ACCOUNTING", reason)
    folder = tmp_path_factory.mktemp("slurmdbd")
    yield from _running(SlurmCluster(folder, accounting=True, max_array_size=4, min_job_age=2))


@pytest.fixture(scope="session")
def second_cluster(
    accounting_cluster: SlurmCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SlurmCluster]:
    """Another cluster, which the commands of the one with accounting reach by --clusters."""
    yield from _running(SecondCluster(tmp_path_factory.mktemp("second"), accounting_cluster))


def line_on(cluster: SlurmCluster, folder: Path) -> CommandLine:
    line = CommandLine(folder)
    line.environment |= {key: cluster.environment[key] for key in ("PATH", "SLURM_CONF")}
    return line


@pytest.fixture
def slurm_line(slurm_cluster: SlurmCluster, tmp_path: Path) -> CommandLine:
    """The command line on the cluster without accounting."""
    return line_on(slurm_cluster, tmp_path)


@pytest.fixture
def accounting_line(accounting_cluster: SlurmCluster, tmp_path: Path) -> CommandLine:
    """The command line on the cluster with accounting."""
    return line_on(accounting_cluster, tmp_path)
