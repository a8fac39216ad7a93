"""Calling SLURM's commands, in one way: their environment, their time, and their errors in SLURM's words."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hyperformer.errors import HyperformerError, clip


class ClusterError(HyperformerError):
    """The cluster took no job, or does not answer."""


class NoAnswer(ClusterError):
    """SLURM does not answer now; it may do so later."""


# Variables of SLURM's commands and jobs. Each command reads its own; they take precedence over a script.
_OF_SLURM = re.compile(
    r"(SLURM|SLURMD|SRUN|SALLOC|SBATCH|SCRUN|SQUEUE|SCANCEL|SACCT|SACCTMGR|SCONTROL|SINFO|SPRIO|SSHARE|SSTAT)_.*"
)
# Of these, what the commands need to find this SLURM, and to be let in.
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")
# What a job further tells its processes; a job that is submitted from inside it must not take it over.
_OF_A_JOB = re.compile(
    r"(SUBMITIT|PMI|PMIX)_.*"
    r"|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|CUDA_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL"
)
_TIMEOUT_S = 60.0
_PAUSE_S = 5.0
_AWAY = re.compile(
    r"Unable to contact|Connection refused|timed out|did not answer|does not answer|Zero Bytes", re.I
)

# None of these passes: there is no slurm.conf, nor a server that has it.
_NOT_CONFIGURED = re.compile(
    r"s_p_parse_file: |ClusterName needs to be specified|Unable to process configuration file|configuration source"
)


def is_available() -> bool:
    """Whether this machine can submit to SLURM."""
    return shutil.which("sbatch") is not None


def call(
    *command: str, stdin: str = "", patience_s: float = 0.0, cluster: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of SLURM's commands.

    Args:
        stdin: what it reads.
        patience_s: how long a controller that does not answer is asked again.
        cluster: the cluster that is meant, where it is not this machine's own.

    Raises:
        NoAnswer: the command takes too long.
        ClusterError: it is not here.
    """
    if cluster is not None:
        command = (command[0], f"--clusters={cluster}", *command[1:])
    end = time.monotonic() + patience_s
    while True:
        try:
            done = _run(command, stdin)
            away = done.returncode != 0 and _AWAY.search(done.stderr + done.stdout) is not None
        except NoAnswer:
            if time.monotonic() >= end:
                raise
            away = True
        if not away or time.monotonic() >= end:
            return done
        time.sleep(_PAUSE_S)


def check_output(*command: str, patience_s: float = 0.0, cluster: str | None = None) -> str:
    """What one of SLURM's commands prints.

    Raises:
        NoAnswer: SLURM's daemons do not answer.
        ClusterError: the command fails, with SLURM's words.
    """
    done = call(*command, patience_s=patience_s, cluster=cluster)
    # A command that prints nothing, and says that it reached no server, has not found an empty list.
    if done.returncode or (not done.stdout.strip() and _AWAY.search(done.stderr)):
        raise failure(done)
    return done.stdout


def rows(text: str, width: int) -> Iterator[list[str]]:
    """The rows of a table; what a command or a site tells between them is left out.

    Raises:
        NoAnswer: a line may be a row, but not one that we know: so SLURM may not have forgotten its job.
    """
    others = []
    is_table = False
    for line in filter(None, map(str.strip, text.splitlines())):
        row = [cell.strip() for cell in line.split("|")]
        if len(row) == width:
            is_table = True
            yield row
        elif len(row) > 1 or row[0][0].isdecimal():
            raise unexpected_answer(line)
        elif not re.match(r"\w+: ", line):  # 'CLUSTER: hpc2', 'squeue: warning: ...'
            others.append(line)
    if others and not is_table:
        raise unexpected_answer(others[0])


def failure(done: subprocess.CompletedProcess[str]) -> ClusterError:
    """Why a command failed, in SLURM's words."""
    words = slurm_words(done.stderr) or slurm_words(done.stdout) or f"exit code {done.returncode}"
    if _AWAY.search(words):
        return NoAnswer(f"SLURM does not answer: {words}")
    if _NOT_CONFIGURED.search(words):
        return ClusterError(
            f"SLURM's commands are on this machine, but they find no SLURM ({_configuration()}): use a machine from "
            f"which you submit jobs, or `--cluster local` to train on this one ({done.args[0]}: {clip(words, 160)})"
        )
    return ClusterError(f"{done.args[0]}: {words}")


def unexpected_answer(text: str) -> NoAnswer:
    """The error for an answer of SLURM that cannot be parsed."""
    return NoAnswer(f"SLURM's answer is not understood: {clip(text, 160)!r}")


@contextmanager
def parsing_answer() -> Iterator[None]:
    """In this block an answer of SLURM is parsed; raises NoAnswer if that is not possible."""
    try:
        yield
    except (LookupError, ValueError, OverflowError) as error:
        raise unexpected_answer(f"{type(error).__name__}: {error}") from error


def _configuration() -> str:
    path = os.environ.get("SLURM_CONF")
    if path is None:
        return "there is no slurm.conf where they look for it"
    return f"SLURM_CONF={path}" + ("" if os.path.exists(path) else " is not there")


def slurm_words(text: str) -> str:
    """What SLURM says, in a line: its own reason and what the site adds, as these cannot be told apart.

    >>> slurm_words("sbatch: error: Note: maintenance on Monday\\nallocation failure: Invalid account\\n")
    'Note: maintenance on Monday; allocation failure: Invalid account'
    """
    lines = (re.sub(r"^\w+: ((error|fatal): )?", "", line.strip()) for line in text.splitlines())
    return "; ".join(dict.fromkeys(filter(None, lines)))


def submitted_job(answer: str) -> tuple[str, str | None]:
    """Job id and cluster in the answer of ``sbatch --parsable``, which a site may precede by a greeting.

    >>> submitted_job("Welcome, this is job 3 of 50\\n4711;hpc2\\n")
    ('4711', 'hpc2')

    Raises:
        ClusterError: there is no job id in it.
    """
    last = (answer.strip().splitlines() or [""])[-1].strip()
    match = re.fullmatch(r"(\d+)(?:;([\w.-]+))?", last)
    if match is None:
        raise ClusterError(f"sbatch answered {answer.strip()[-300:]!r}, whose last line is not a job id")
    return match[1], match[2]


def clean_environment() -> dict[str, str]:
    """This process's environment without what would alter SLURM's commands, as if it ran in no job."""
    in_a_job = "SLURM_JOB_ID" in os.environ
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or not (_OF_SLURM.fullmatch(name) or (in_a_job and _OF_A_JOB.fullmatch(name)))
    }


def notes_on_shell() -> list[str]:
    """A note where variables of the user's shell ask sbatch for something: they are left out."""
    # A job has SBATCH_MEM_BIND and its like from SLURM.
    asks = re.compile(r"SBATCH_(?!MEM_BIND).*|SLURM_CLUSTERS")
    names = sorted(filter(asks.fullmatch, os.environ))
    if not names:
        return []
    variables = ", ".join(f"{name}={os.environ[name]}" for name in names)
    return [f"not used: {variables}; what jobs ask for stands in the sweep file and in the cluster's profile"]


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """What is started meanwhile has these variables, and no others."""
    before = dict(os.environ)
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def _run(command: tuple[str, ...], stdin: str) -> subprocess.CompletedProcess[str]:
    variables = {**clean_environment(), "SLURM_BITSTR_LEN": "0"}  # array ids whole, however long
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, errors="replace",
            timeout=_TIMEOUT_S, check=False, env=variables,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not here: ask on a machine that reaches SLURM") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"SLURM does not answer: {command[0]} took more than {_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise ClusterError(f"{command[0]} cannot be started: {error.strerror}") from error
