"""Calling the commands of SLURM: the environment they get, how long they may take, what their errors say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hyperformer.errors import HyperformerError


class ClusterError(HyperformerError):
    """The cluster took no job, or does not answer."""


# What a job's environment tells of that job; a job submitted from inside it must not take it over.
_OF_A_JOB = re.compile(
    r"(SLURM|SLURMD|SLURM_STEP|SRUN|SUBMITIT|PMI|PMIX)_.*"
    r"|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|CUDA_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL"
)


_OF_THE_SITE = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "SLURM_JWT")


@contextmanager
def outside_of_any_job() -> Iterator[None]:
    """As if this process ran in no job."""
    inside = "SLURM_JOB_ID" in os.environ
    taken = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if inside and _OF_A_JOB.fullmatch(name) and name not in _OF_THE_SITE
    }
    try:
        yield
    finally:
        os.environ.update(taken)


def slurm_words(text: str) -> str:
    """SLURM's own words of submitit's error, if they are there."""
    said = [line for line in text.splitlines() if line.startswith(("sbatch: error:", "sbatch: fatal:"))]
    return "; ".join(line.split(": ", 2)[2] for line in said) or text


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """What is started meanwhile has these variables."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


_TIMEOUT_S = 60


def here() -> bool:
    """Whether this machine can submit to SLURM."""
    return shutil.which("sbatch") is not None


def _rows(text: str, width: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        row = line.strip().split("|")
        if len(row) == width:
            yield row


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's commands. Raises ClusterError if it is not here, or takes too long."""
    return _call(list(command))


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
            env={**os.environ, "SLURM_BITSTR_LEN": "0"},  # array ids whole, however long
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not here: ask on a machine that reaches SLURM") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"SLURM does not answer: {command[0]} took more than {_TIMEOUT_S} s") from error
