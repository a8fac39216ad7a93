"""Sweeps in temporary folders."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_command import CommandLine

from launchers.plan.cluster_profile import NO_PROFILE
from launchers.plan.load_plan import load_plan
from launchers.plan.plan import Plan


@pytest.fixture
def write_sweep(tmp_path: Path) -> Callable[[str], Path]:
    """Write YAML into a sweep file of the test's folder."""

    def write(text: str, name: str = "s.yaml") -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def plan_of(write_sweep: Callable[[str], Path]) -> Callable[[str], Plan]:
    """The plan of a YAML text."""
    return lambda text: load_plan(str(write_sweep(text)), NO_PROFILE)


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)
