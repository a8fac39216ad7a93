"""The record of what was handed to SLURM: one file per array, ``submissions/<n>.json``.

It is written before sbatch is called, and again with the job id. Jobs read which
runs they have; `status` reads which job a run is in. So a thousand runs cost one
file at submit, and each job creates the folder of its run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hyperformer.files import atomic_write
from hyperformer.settings.build import cached_flat, flatten, make_config
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.signature import signature
from launchers.plan.plan import Run
from launchers.store import records
from launchers.store.records import SCHEMA, DamagedRecord, LedgerError, is_a
from launchers.store.sweep_folder import SweepFolder, moved_notes


@dataclass(frozen=True)
class QueuedRun:
    """One run of a submission.

    Attributes:
        folder: the name of its folder in the sweep's.
        attempt: the number of its first attempt in this submission.
        settings: those that differ from the defaults.
        contents: as in :class:`hyperformer.settings.schema.RunConfig`.
        is_known: the signature is not that of settings and contents, but one that the run has already.
    """

    signature: str
    name: str
    folder: str
    attempt: int
    settings: dict[str, Any]
    contents: dict[str, str] | None = None
    is_known: bool = False

    @classmethod
    def of(cls, run: Run, folder: str, attempt: int) -> QueuedRun:
        """The entry of a planned run."""
        config = run.config
        contents = None if config.contents is None else dict(config.contents)
        values = changed_settings(config)
        return cls(run.signature, run.name, folder, attempt, values, contents, config.known_as is not None)

    def config(self, folder: Path) -> RunConfig:
        """The run's config.

        Raises:
            LedgerError: the settings are not those of the run that was planned.
        """
        known_as = self.signature if self.is_known else None
        values = {**self.settings, "output_dir": str(folder)}
        config = make_config(values, str(folder), self.contents, known_as)
        if signature(config) != self.signature:
            raise LedgerError(f"{self.name}: its record has the settings of another run, {signature(config)}")
        return config


@dataclass(frozen=True)
class Submission:
    """One array.

    Attributes:
        tasks: the runs of each of its tasks, several where they are packed; none if SLURM never took it.
        policy: what follows a failure (:class:`launchers.plan.retry_policy.RetryPolicy`).
        slurm_cluster: where its jobs are, if not on the cluster of this machine.
        moved: by task, the job that it is in now, where it had to be submitted again from inside.
    """

    number: int
    job_name: str
    cluster: str
    submitted: float
    code: str
    tasks: list[list[QueuedRun]]
    job_id: str | None = None
    ranks: int = 1
    cpus: int | None = None
    shape: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    slurm_cluster: str | None = None
    moved: dict[int, str] = field(default_factory=dict)

    @property
    def is_unconfirmed(self) -> bool:
        """Whether it is not known if SLURM has it: the submit was interrupted, or is still running."""
        return self.job_id is None and bool(self.tasks)

    def task_id(self, index: int) -> str | None:
        """The job id of a task; a submission of one task is not an array."""
        if index in self.moved:
            return self.moved[index]
        if self.job_id is None or len(self.tasks) == 1:
            return self.job_id
        return f"{self.job_id}_{index}"


@dataclass(frozen=True)
class QueuedJob:
    """The job that a run is in: one task of a submission."""

    submission: Submission
    task: int
    run: QueuedRun

    @property
    def job_id(self) -> str | None:
        """SLURM's name for it; None while that is not known."""
        return self.submission.task_id(self.task)

    @property
    def runs(self) -> list[QueuedRun]:
        """All the runs of the job: several where they are packed."""
        return self.submission.tasks[self.task]


def _is_plain_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value and "\0" not in value


def _are_tasks(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(task, list) and task for task in value)


_HEAD: records.Kinds = {
    "number": is_a(int), "job_name": is_a(str), "cluster": is_a(str), "submitted": is_a(int, float),
    "code": is_a(str), "tasks": _are_tasks, "job_id": is_a(str), "ranks": is_a(int), "cpus": is_a(int),
    "shape": is_a(dict), "policy": is_a(dict), "slurm_cluster": is_a(str),
}  # fmt: skip
_HEAD_NEEDED = ("number", "job_name", "cluster", "submitted", "code", "tasks")
_ENTRY: records.Kinds = {
    "signature": is_a(str), "name": is_a(str), "folder": _is_plain_name, "attempt": is_a(int), "settings": is_a(dict),
    "contents": is_a(dict, type(None)), "is_known": lambda value: isinstance(value, bool),
}  # fmt: skip
_ENTRY_NEEDED = ("signature", "name", "folder", "attempt", "settings")


def changed_settings(config: RunConfig) -> dict[str, Any]:
    """The flat settings that differ from the defaults."""
    flat = cached_flat(config)
    return {
        key: flat[key]
        for key, default in _DEFAULTS.items()
        if flat[key] is not default and flat[key] != default
    }


_DEFAULTS = {key: value for key, value in flatten(RunConfig()).items() if key != "output_dir"}


def write(folder: SweepFolder, submission: Submission, lines: str | None = None) -> Path:
    """Write the record; returns its path.

    Args:
        lines: the :func:`task_lines` of its tasks, where they are known already.
    """
    path = folder.submission(submission.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {key: value for key, value in vars(submission).items() if key not in ("moved", "tasks")}
    head = _encode({"schema": SCHEMA, **record})[:-1]
    with atomic_write(path) as stream:
        stream.write(f'{head}, "tasks": [\n{task_lines(submission.tasks) if lines is None else lines}\n]}}\n')
    return path


def task_lines(tasks: Sequence[Sequence[QueuedRun]]) -> str:
    """One line per task: people can read it, and json writes it at full speed."""
    return ",\n".join(_encode([vars(entry) for entry in task]) for task in tasks)


_encode = json.JSONEncoder(ensure_ascii=False).encode


def read(path: Path) -> Submission:
    """Read a record.

    Raises:
        DamagedRecord, LedgerError: it is none of ours any more, or of a newer schema.
    """
    record = records.read_record(path)
    if record is None:
        raise LedgerError(f"{path} is not there any more: which runs this job has is not known")
    records.check(path, record, _HEAD, _HEAD_NEEDED)
    tasks = [[_entry(path, entry) for entry in task] for task in record["tasks"]]
    known = {item.name for item in fields(Submission)}
    values = {key: record[key] for key in known & record.keys()}
    return Submission(**{**values, "tasks": tasks, "moved": _moved(path)})


def _moved(record: Path) -> dict[int, str]:
    folder = moved_notes(record)
    notes = {path.stem: records.try_record(path) for path in folder.glob("*.json")} if folder.is_dir() else {}
    return {int(stem): str(note["job_id"]) for stem, note in notes.items() if note and stem.isdecimal()}


def read_for_job(path: Path, job_id: str | None) -> Submission:
    """The record for the job that is to run it.

    Raises:
        LedgerError: the record is not this job's (any more), so its runs may be another's by now.
    """
    submission = read(path)
    own = {submission.job_id, *(moved.partition("_")[0] for moved in submission.moved.values())}
    if not submission.tasks or (job_id and submission.job_id and job_id not in own):
        raise LedgerError(
            f"{path} is not of job {job_id}: the sweep does not know this job, so nothing is run"
        )
    return submission


def _entry(path: Path, entry: Any) -> QueuedRun:
    if not isinstance(entry, dict):
        raise DamagedRecord(path, "an entry is no JSON object")
    records.check(path, entry, _ENTRY, _ENTRY_NEEDED)
    return QueuedRun(**{name: entry[name] for name in _ENTRY if name in entry})


def read_all(folder: SweepFolder) -> tuple[list[Submission], dict[int, LedgerError]]:
    """Every submission of a sweep's folder, oldest first; and by number what is wrong with unreadable ones."""
    found, faults = [], {}
    for number in sorted(number for number, is_record in numbers(folder) if is_record):
        try:
            found.append(read(folder.submission(number)))
        except LedgerError as error:
            faults[number] = error
    return found, faults


def numbers(folder: SweepFolder) -> list[tuple[int, bool]]:
    """The number of each file of submissions, and whether it is a record or one that was renamed as damaged."""
    try:
        names = os.listdir(folder.submissions)
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [re.match(r"(0|[1-9][0-9]{0,17})\.json", name) for name in names]
    return [(int(match[1]), match[0] == match.string) for match in matches if match]
