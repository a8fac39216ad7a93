"""What of a machine decides how sums round, and which random numbers dropout draws."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch


def describe_machine() -> dict[str, Any]:
    """The kind of device, torch, and on a CPU its instructions and threads: for inputs.json and result.json.

    Where all of it is equal, and the kernels are deterministic, the same training gives bit-identical losses.
    """
    if torch.cuda.is_available():
        return {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda or torch.version.hip,
        }
    return {
        "device": _processor(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """The model of the CPU, as Linux names it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
