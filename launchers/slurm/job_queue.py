"""What SLURM says of our jobs: one squeue, and one sacct for what squeue has forgotten."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from launchers.plan.durations import read_duration
from launchers.slurm.commands import (
    ClusterError,
    NoAnswer,
    call,
    check_output,
    failure,
    rows,
    unexpected_answer,
)
from launchers.slurm.states import ENDED, read_state


@dataclass(frozen=True)
class SlurmJob:
    """A job in SLURM's words.

    Attributes:
        state: one of :data:`launchers.slurm.states.STATES`, or what else SLURM says.
        reason: why it waits, or why it ended so.
        name: the job's name; tells our job from another that was given the same id.
        start: when it started, or is expected to; '' if SLURM does not say.
        elapsed: seconds that it has run.
    """

    state: str
    reason: str = ""
    node: str = ""
    name: str = ""
    start: str = ""
    elapsed: float | None = None


def job_key(job_id: str, cluster: str | None = None) -> str:
    """One text for a job wherever it is, as sbatch writes it: '7_1', or '7_1;hpc2' on another cluster."""
    return f"{job_id};{cluster}" if cluster else job_id


def _by_cluster(keys: Iterable[str]) -> dict[str | None, set[str]]:
    """The job ids of keys, by cluster; None: this machine's own."""
    found: dict[str | None, set[str]] = {}
    for key in keys:
        job_id, _, cluster = key.partition(";")
        found.setdefault(cluster or None, set()).add(job_id)
    return found


def query(keys: Iterable[str]) -> dict[str, SlurmJob]:
    """What SLURM says of jobs, by their key; those that it knows nothing of are left out.

    Of each cluster one squeue, and one sacct for jobs that squeue has forgotten or
    calls FAILED (the reason may be in a step's row), however many jobs.

    Args:
        keys: of :func:`job_key`.

    Raises:
        ClusterError: SLURM does not answer.
    """
    return {
        job_key(job_id, cluster): job
        for cluster, wanted in _by_cluster(keys).items()
        for job_id, job in _query(wanted, cluster).items()
    }


def _query(wanted: set[str], cluster: str | None) -> dict[str, SlurmJob]:
    found = _collect(_squeue(_arrays(wanted), cluster), wanted)
    gone = wanted - found.keys()
    unclear = gone | {job_id for job_id, job in found.items() if job.state == "FAILED"}
    if not unclear:
        return found
    try:
        recorded = _collect(_sacct(_arrays(unclear), cluster), unclear)
    except NoAnswer as error:  # what squeue said holds, and the others are asked for later
        return found | {job_id: SlurmJob("UNKNOWN", f"sacct cannot tell now: {error}") for job_id in gone}
    except _NoAccounting:  # nothing remembers what squeue has forgotten
        return found
    for job_id, job in recorded.items():
        if job_id not in found and job.state not in ENDED:
            # The queue does not have it. Either it has just ended, or slurmctld lost it.
            found[job_id] = replace(job, state="UNKNOWN", reason=f"accounting still says {job.state}")
        elif job_id not in found or job.state == "OUT_OF_MEMORY":
            found[job_id] = job
    return found


def states_of(job_id: str, cluster: str | None = None) -> frozenset[str]:
    """The states of a job, or of all tasks of an array; none: SLURM knows nothing of it.

    Raises:
        ClusterError: SLURM does not answer.
    """
    found = [job.state for _, job in _squeue(job_id, cluster)]
    if not found:
        with suppress(_NoAccounting):
            found = [job.state for _, job in _sacct(job_id, cluster)]
    return frozenset(found)


def ids_by_name(names: Sequence[str], since: float, cluster: str | None = None) -> dict[str, str]:
    """Job id (an array's, without index) by job name; names that SLURM knows nothing of are left out.

    Args:
        since: seconds since the epoch: no job of these names is older.

    Raises:
        ClusterError: SLURM does not answer.
    """
    text = check_output("squeue", "--noheader", "--states=all", f"--name={','.join(names)}",
               "--format=%i|%j|%T|%N", cluster=cluster)  # fmt: skip
    found = _accepted(text)
    gone = [name for name in names if name not in found]
    if gone:
        a_day_before = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(min(since, time.time()) - 86_400))
        words = (
            f"--name={','.join(gone)}",
            f"--starttime={a_day_before}",
            "--format=JobID,JobName,State,NodeList",
        )
        with suppress(_NoAccounting):
            found |= _accepted(_ask_sacct(*words, cluster=cluster))
    return {name: found[name] for name in names if name in found}


def _accepted(table: str) -> dict[str, str]:
    """Job id by name, from rows of id, name, state and nodes.

    SLURM also remembers for a while a job that sbatch was refused: failed, without ever a node.
    """
    return {
        name: read_ids(job_id.partition(".")[0]).base
        for job_id, name, state, nodes in rows(table, 4)
        if read_state(state) != "FAILED" or nodes not in ("", "None assigned")
    }


def _collect(rows: Iterable[tuple[str, SlurmJob]], wanted: set[str]) -> dict[str, SlurmJob]:
    """Rows by the ids that they are about; of several rows of a job the last one counts."""
    found: dict[str, SlurmJob] = {}
    cut: list[tuple[JobIds, SlurmJob]] = []
    for text, job in rows:
        ids = read_ids(text)
        for job_id in ids.expand():
            if job_id in wanted:
                found[job_id] = job
        if ids.cut:
            cut.append((ids, job))
    for ids, job in cut:  # '23_[5-9,12,...': what is left of the array and listed nowhere else
        for job_id in wanted - set(found):
            base, _, index = job_id.partition("_")
            if base == ids.base and index.isdigit() and int(index) > ids.last:
                found[job_id] = job
    return found


@dataclass(frozen=True)
class JobIds:
    """What squeue and sacct write for one or many tasks of an array: ``23``, ``23_4``, ``23_[0-9:3,12%2]``."""

    base: str
    ranges: tuple[range, ...] | None = None
    cut: bool = False

    @property
    def last(self) -> int:
        return max((part[-1] for part in self.ranges or () if part), default=-1)

    def expand(self) -> Iterator[str]:
        if self.ranges is None:
            yield self.base
        for part in self.ranges or ():
            for index in part:
                yield f"{self.base}_{index}"


def read_ids(text: str) -> JobIds:
    """Parse a job id as SLURM writes it, compressed or cut short.

    Raises:
        NoAnswer: it is not a job id that we know.
    """
    match = re.fullmatch(r"(\d+)(?:_(.+))?", text, re.ASCII)
    if match is None:
        raise unexpected_answer(text)
    base, rest = match.groups()
    if rest is None:
        return JobIds(base)
    cut = "..." in rest or (rest.startswith("[") and not rest.endswith("]"))
    parts = rest.strip("[]").partition("%")[0].split(",")
    ranges = [found for part in parts if (found := _indices(part)) is not None]
    if len(ranges) < len(parts) and not cut:
        raise unexpected_answer(text)
    return JobIds(base, tuple(ranges), cut)


def _indices(part: str) -> range | None:
    """The indices of '7', '0-9' or '0-9:3', of seven digits at most as SLURM's; None: it is none of these."""
    match = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?(?::([1-9]\d{0,6}))?", part, re.ASCII)
    if match is None:
        return None
    first, last, step = match.groups()
    return range(int(first), int(last or first) + 1, int(step or 1)) or None


def cancel(keys: Iterable[str]) -> dict[str, str]:
    """Cancel jobs; returns what SLURM refuses to cancel, and why. Jobs that have ended are not refusals.

    Raises:
        ClusterError: SLURM does not answer.
    """
    refused: dict[str, str] = {}
    for cluster, job_ids in _by_cluster(keys).items():
        done = call("scancel", *sorted(job_ids), cluster=cluster)
        refusals = dict(re.findall(r"job id (\S+): (.*)", done.stderr))
        if done.returncode and not refusals.keys() & job_ids:
            raise failure(done)
        refused |= {job_key(job_id, cluster): f"SLURM refuses: {why}" for job_id, why in refusals.items()}
    return refused


def _arrays(job_ids: Iterable[str]) -> str:
    """Ids without the array index: one for a whole array keeps the command short."""
    return ",".join(sorted({job_id.partition("_")[0] for job_id in job_ids}))


def _squeue(ids: str, cluster: str | None) -> Iterator[tuple[str, SlurmJob]]:
    words = ("--noheader", "--states=all", f"--jobs={ids}", "--format=%i|%T|%r|%N|%j|%S|%M")
    try:
        table = check_output("squeue", *words, cluster=cluster)
    except ClusterError as error:
        if "Invalid job id" in str(error):
            return  # it has forgotten all of them
        raise
    for job_id, state, reason, node, name, start, elapsed in rows(table, 7):
        start = "" if start in ("N/A", "Unknown", "None") else start
        yield job_id, SlurmJob(read_state(state), reason, node, name, start, read_duration(elapsed))


def _sacct(ids: str, cluster: str | None) -> Iterator[tuple[str, SlurmJob]]:
    words = (f"--jobs={ids}", "--format=JobID,State,NodeList,JobName,Start,Elapsed,ExitCode")
    jobs: dict[str, SlurmJob] = {}
    for row, state, node, name, start, elapsed, code in rows(_ask_sacct(*words, cluster=cluster), 7):
        state = read_state(state)
        job_id, _, step = row.partition(".")
        if not step:
            jobs.pop(job_id, None)  # a requeued job has several rows: the last is the newest
            node = "" if node == "None assigned" else node
            reason = "JobLaunchFailure" if code == _NOT_LAUNCHED else ""
            jobs[job_id] = SlurmJob(state, reason, node, name, start, read_duration(elapsed))
        elif state == "OUT_OF_MEMORY" and job_id in jobs and jobs[job_id].state == "FAILED":
            jobs[job_id] = replace(jobs[job_id], state=state)
    yield from jobs.items()


# What slurmd gives a job whose log it could not open, or whose script it could not start.
_NOT_LAUNCHED = "0:53"


class _NoAccounting(ClusterError):
    """The site keeps no accounts, or does not show them."""


def _ask_sacct(*words: str, cluster: str | None) -> str:
    try:
        return check_output("sacct", "--noheader", "--parsable2", *words, cluster=cluster)
    except NoAnswer:
        raise
    except ClusterError as error:
        raise _NoAccounting(str(error)) from error
