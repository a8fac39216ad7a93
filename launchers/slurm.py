"""What SLURM says of our jobs: one squeue, and one sacct for what squeue has forgotten."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launchers.cluster import ClusterError

PENDING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT"})
_TIMEOUT_S = 60


@dataclass(frozen=True)
class SlurmJob:
    """A job in SLURM's words: state such as RUNNING, reason why it waits, node."""

    state: str
    reason: str = ""
    node: str = ""


def here() -> bool:
    """Whether this machine can submit to SLURM."""
    return shutil.which("sbatch") is not None


def query(job_ids: Iterable[str]) -> dict[str, SlurmJob]:
    """State by job id; jobs that SLURM knows nothing of are left out.

    Raises:
        ClusterError: SLURM does not answer.
    """
    wanted = set(job_ids)
    if not wanted:
        return {}
    found = {}
    for fields in _squeue(_arrays(wanted)):
        if fields[0] in wanted:
            found[fields[0]] = SlurmJob(*fields[1:4])
    gone = wanted - set(found)
    for fields in _sacct(_arrays(gone)) if gone else []:
        if fields[0] in gone:
            found[fields[0]] = SlurmJob(fields[1].split(" ")[0], node=fields[2])
    return found


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs. Raises ClusterError if SLURM refuses."""
    if not job_ids:
        return
    done = _call(["scancel", *job_ids])
    if done.returncode:
        raise ClusterError(f"scancel failed: {done.stderr.strip()}")


def _arrays(job_ids: Iterable[str]) -> str:
    """Ids without the array index: one for a whole array keeps the command short."""
    return ",".join(sorted({job_id.partition("_")[0] for job_id in job_ids}))


def _squeue(ids: str) -> list[list[str]]:
    done = _call(["squeue", "--noheader", "--array", "--states=all", f"--jobs={ids}", "--format=%i|%T|%r|%N"])
    if done.returncode:
        if "Invalid job id" in done.stderr:
            return []  # it has forgotten all of them
        raise ClusterError(f"SLURM does not answer: {done.stderr.strip() or 'squeue failed'}")
    return _rows(done.stdout, 4)


def _sacct(ids: str) -> list[list[str]]:
    done = _call(["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={ids}",
                  "--format=JobID,State,NodeList"])  # fmt: skip
    # Without accounting sacct fails; then what squeue has forgotten stays unknown.
    return [] if done.returncode else _rows(done.stdout, 3)


def _rows(text: str, width: int) -> list[list[str]]:
    rows = [line.strip().split("|") for line in text.splitlines()]
    return [row for row in rows if len(row) >= width]


def _call(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not here: ask on a machine that reaches SLURM") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"SLURM does not answer: {command[0]} took more than {_TIMEOUT_S} s") from error
