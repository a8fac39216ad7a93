"""benchmarks/gpu.py: its table, and a part of it in small. What it finds on a GPU, only a GPU can show."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from places import ROOT

from hyperformer.settings.schema import VARIANTS

SCRIPT = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def found(gpu: ModuleType, device: str) -> dict:
    row = {"variant": "adapters", "tokens_per_second": 12345.6, "share_of_peak": 0.123, "of_frozen": 0.5}
    row |= {"of_full": None, "peak_memory_bytes": 3 << 29, "evaluation_rows_per_second": 10.0}
    row["operations"] = 3456
    parts: dict = {name: {"found": {"bit_identical": True}, "device": device} for name in gpu.PARTS}
    return parts | {"bf16": {"found": [row], "device": device}, "fp32": {"not_measured": "no time was left"}}


def test_the_table_says_what_was_and_was_not_measured(gpu: ModuleType) -> None:
    text = gpu.table(found(gpu, "NVIDIA H100 80GB HBM3"), gpu.Size(), False)
    assert text.startswith("## NVIDIA H100 80GB HBM3\n") and "Share of peak:" not in text
    assert "| adapters | 12,346 | 12.3% | 3,456 | 0.50 | - | 1.50 GiB | 10.0 |" in text
    assert "not measured: no time was left" in text and "- resume bf16: bit_identical True" in text
    text = gpu.table(found(gpu, "Quick 1"), gpu.SMALL, True)
    assert (
        "not measured: the peak FLOP/s of Quick 1 are not in the table" in text
        and "nothing about speed" in text
    )


def test_a_section_takes_the_place_of_the_one_of_its_device(gpu: ModuleType) -> None:
    text = gpu.with_section("", "## A\n\none\n")
    text = gpu.with_section(text, "## A, small shapes\n\ntwo\n")
    text = gpu.with_section(text, "## A\n\nthree\n")
    assert text.startswith("# Results") and "one" not in text
    assert text.count("## ") == 2 and text.index("two") < text.index("three")


@pytest.mark.parametrize(
    ("device", "bf16"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L40S", 362e12), ("NVIDIA L40", None), ("CPU", None),
    ],
)  # fmt: skip
def test_peaks(gpu: ModuleType, device: str, bf16: float | None) -> None:
    assert gpu.peak_flops(device, "bf16") == bf16
    assert (gpu.peak_flops(device, "fp32") or 0) * 2 == pytest.approx(bf16 or 0, rel=0.02)


@pytest.mark.slow
def test_a_part_in_small(tmp_path: Path) -> None:
    """And what needs a GPU says so."""
    for part in ("fp32", "NCCL, one rank"):
        arguments = ["--small", "--part", part, "--result", str(tmp_path / f"{part}.json")]
        subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, capture_output=True)
    rows = json.loads((tmp_path / "fp32.json").read_text())["found"]
    assert (
        len(rows) == 1 + len(VARIANTS)
        and rows[0]["of_frozen"] == 1
        and all(row["tokens_per_second"] > 0 and row["operations"] > 500 for row in rows)
    )
    assert "no CUDA" in json.loads((tmp_path / "NCCL, one rank.json").read_text())["not_measured"]
