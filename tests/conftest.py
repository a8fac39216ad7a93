"""For all tests."""

from __future__ import annotations

import os

import pytest

# What the tests expect are numbers of a CPU, also on a machine with a GPU. benchmarks/gpu.py is for GPUs.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that the tests start share the cores with the tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
