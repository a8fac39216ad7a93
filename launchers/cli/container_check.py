"""What a container must have to train: ``docker run IMAGE check``, and the image's health command."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hyperformer import __version__
from hyperformer.terminal import print_error
from launchers.submit.local_queue import gpus

_LIBRARIES = ("torch", "transformers", "datasets", "deepspeed")
_LITTLE_SHM = 1 << 30
_PATIENCE_S = 50


def check(work: Path, cache: Path, quick: bool) -> int:
    """Print what is there; returns 1 if something that was given does not work.

    Args:
        quick: without torch, whose import takes seconds and whose CUDA context takes GPU memory: for the
            health command, which runs beside a training.
    """
    print(f"hyperformer {__version__}, commit {os.environ.get('HYPERFORMER_COMMIT') or 'not known'}")
    versions = (f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    print(", ".join([f"Python {sys.version.split()[0]}", *versions]))
    faults = list(_gpu_faults())
    for folder, what in ((work, "runs and outputs"), (cache, "models and data sets")):
        words = "can be written" if os.access(folder, os.W_OK) else "cannot be written"
        free = shutil.disk_usage(folder).free >> 30
        print(
            f"{folder} ({what}): {'mounted' if os.path.ismount(folder) else 'not mounted'}, {words}, {free} GB free"
        )
    if not quick:
        faults += _torch_faults()
    for note in notes(work):
        print(f"note: {note}")
    for fault in faults:
        print_error(fault)
    return 1 if faults else 0


def notes(work: Path) -> Iterator[str]:
    """What works, but mostly is not meant."""
    if not os.path.ismount(work):
        yield f'{work} is inside the container, and is lost with it: add -v "$PWD":{work} to docker run'
    elif not os.access(work, os.W_OK):
        owner = work.stat()
        yield (
            f"{work} belongs to user {owner.st_uid}, and this container runs as user {os.getuid()}, who cannot "
            'write there: add --user "$(id -u):$(id -g)" to docker run'
        )
    if len(gpus()) > 1 and shutil.disk_usage("/dev/shm").total < _LITTLE_SHM:
        yield (
            "/dev/shm is below 1 GB, and ranks on several GPUs talk through it: "
            "add --shm-size 8g (or --ipc host) to docker run"
        )


def _gpu_faults() -> Iterator[str]:
    """See that the GPUs answer. Without any this is a container for the CPU, which is not a fault."""
    if not shutil.which("nvidia-smi"):
        print("no GPU was given to the container (docker run --gpus all gives it those of the machine)")
        return
    words = ["nvidia-smi", "--query-gpu=index,name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        yield f"nvidia-smi gave no answer in {_PATIENCE_S} s: a GPU or its driver hangs; restart the machine"
        return
    print(done.stdout.strip())
    if done.returncode:
        yield f"nvidia-smi ended with code {done.returncode}: {(done.stdout + done.stderr).strip()}"


def _torch_faults() -> Iterator[str]:
    """Compute something on every device, with what a training imports."""
    import deepspeed  # noqa: F401 - that it can be imported without nvcc is the question
    import torch

    count = torch.cuda.device_count()
    for device in [f"cuda:{number}" for number in range(count)] or ["cpu"]:
        square = torch.eye(64, device=device)
        if not torch.equal(square @ square, square):
            yield f"{device} computes wrongly"
        print(f"torch computes on {device}")
    if count < len(gpus()):
        yield (
            f"torch sees {count} of {len(gpus())} GPUs: it was built for CUDA {torch.version.cuda}; "
            "is the driver new enough for it (nvidia-smi shows the newest that it can), or is this the CPU image?"
        )
