"""SLURM's answers on a sweep's jobs: shared by those who watch it, and remembered while SLURM does not answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hyperformer.files import atomic_write
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.slurm.job_queue import SlurmJob
from launchers.store.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Answer:
    """What SLURM says of jobs, by their key (:func:`launchers.slurm.job_queue.job_key`).

    Attributes:
        jobs: those that it knows.
        asked: those that it was asked for and answered; one that is not in `jobs` it does not know.
        notes: for the user, where it does not answer.
    """

    jobs: dict[str, SlurmJob]
    asked: frozenset[str]
    notes: tuple[str, ...] = ()


def query_jobs(paths: SweepFolder, keys: Iterable[str], max_age_s: float = 0.0) -> Answer:
    """What SLURM says of jobs now, or said of them within the last `max_age_s` seconds.

    While it does not answer, what it said last, however old.
    """
    wanted = frozenset(keys)
    if not wanted:
        return Answer({}, wanted)
    kept = read_cache(paths) if max_age_s else None
    if kept and wanted <= kept.answer.asked and 0 <= time.time() - kept.at <= max_age_s:
        return kept.answer
    try:
        answer = Answer(job_queue.query(wanted), wanted)
    except ClusterError as error:
        kept = kept or read_cache(paths)
        if kept is None:
            return Answer({}, frozenset(), (f"{error}; states of jobs are the last ones known",))
        note = f"{error}; states of jobs are the last ones known, {_age(kept.at)} old"
        # One that it did not know then is not lost: nobody can tell.
        return Answer(kept.answer.jobs, frozenset(kept.answer.jobs), (note,))
    write_cache(paths, answer)
    return answer


@dataclass(frozen=True)
class CachedAnswer:
    """An answer, and when SLURM gave it, in seconds since the epoch."""

    answer: Answer
    at: float


def write_cache(paths: SweepFolder, answer: Answer) -> None:
    """Write an answer to last_known.json. A memory, no record: without it nothing is lost."""
    if not answer.jobs:
        return
    jobs = {key: vars(job) for key, job in answer.jobs.items()}
    record = {"at": time.time(), "jobs": jobs, "gone": sorted(answer.asked - jobs.keys())}
    with suppress(OSError), atomic_write(paths.last_known) as stream:  # the folder may be another's
        stream.write(json.dumps(record))


def read_cache(paths: SweepFolder) -> CachedAnswer | None:
    """What SLURM said last, or None if it never said anything."""
    try:
        record = json.loads(paths.last_known.read_text(encoding="utf-8"))
        jobs = {key: _job(values) for key, values in record["jobs"].items()}
        return CachedAnswer(
            Answer(jobs, frozenset(jobs) | frozenset(record.get("gone", ()))), float(record["at"])
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _age(at: float) -> str:
    minutes = max(0, round((time.time() - at) / 60))  # clocks differ
    return f"{minutes} minute{'s' if minutes != 1 else ''}" if minutes else "less than a minute"


def _job(values: dict[str, Any]) -> SlurmJob:
    """A job as it was kept, by an earlier or later version perhaps; raises ValueError if it is none."""
    defaults = vars(SlurmJob(""))
    known = {name: values[name] for name in defaults.keys() & values.keys()}
    for name, value in known.items():
        is_text = isinstance(defaults[name], str)
        if not isinstance(value, str) if is_text else not 0 <= float(value or 0) < 1e12:
            raise ValueError(f"{name} is {value!r}")
    return SlurmJob(**known)
