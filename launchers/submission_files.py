"""The record of what was handed to SLURM: one file an array, ``submissions/<n>.json``.

It is written before sbatch is called and again with the job id. Jobs read in
it what they are to run; status reads in it which job a run is in. So a
thousand runs cost one file at submit, and each job makes its run's folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hyperformer.config import RunConfig, make_config
from hyperformer.files import atomic_write

_SECTIONS = ("model", "adapter", "data", "training")
_DEFAULT_PARTS = [vars(part) for part in (RunConfig(), *(getattr(RunConfig(), name) for name in _SECTIONS))]


@dataclass(frozen=True)
class Entry:
    """One run of a submission; `settings` are those that differ from the defaults."""

    signature: str
    name: str
    folder: str
    attempt: int
    settings: dict[str, Any]

    def config(self, folder: Path) -> RunConfig:
        return make_config({**self.settings, "output_dir": str(folder)}, where=str(folder))


@dataclass(frozen=True)
class Submission:
    """One array.

    Attributes:
        tasks: the runs of each of its tasks, several where they are packed.
        policy: what follows a failure (:class:`launchers.policy.Policy`).
        moved: by task, the job that it is in now, where it had to be submitted again from inside.
    """

    number: int
    job_name: str
    cluster: str
    submitted: float
    code: str
    tasks: list[list[Entry]]
    job_id: str | None = None
    ranks: int = 1
    cpus: int | None = None
    shape: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] = field(default_factory=dict)
    moved: dict[int, str] = field(default_factory=dict)

    def task_id(self, index: int) -> str | None:
        """SLURM's name for a task; a submission of one is no array."""
        if index in self.moved:
            return self.moved[index]
        if self.job_id is None or len(self.tasks) == 1:
            return self.job_id
        return f"{self.job_id}_{index}"


def entry_settings(config: RunConfig) -> dict[str, Any]:
    """The flat settings that differ from the defaults."""
    found: dict[str, Any] = {}
    for mine, default in zip(_parts(config), _DEFAULT_PARTS, strict=True):
        for key, value in vars(mine).items():
            if value != default[key] and key not in _SECTIONS and key != "output_dir":
                found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _parts(config: RunConfig) -> list[Any]:
    return [config, *(getattr(config, name) for name in _SECTIONS)]


def path_of(folder: Path, number: int) -> Path:
    """The record's path; `folder` is the sweep's."""
    return folder / "submissions" / f"{number}.json"


def write(folder: Path, submission: Submission) -> Path:
    """Write the record; `folder` is the sweep's. Returns its path."""
    path = path_of(folder, submission.number)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {key: value for key, value in vars(submission).items() if key != "moved"}
    tasks = [[vars(entry) for entry in task] for task in record.pop("tasks")]
    with atomic_write(path) as stream:
        # A line a task: people can read it, and json writes it at full speed.
        head = json.dumps(record, ensure_ascii=False)[:-1]
        body = ",\n".join(json.dumps(task, ensure_ascii=False) for task in tasks)
        stream.write(f'{head}, "tasks": [\n{body}\n]}}\n')
    return path


def read(path: Path) -> Submission:
    """Raises ValueError where the file is no record of ours."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        tasks = [[Entry(**entry) for entry in task] for task in record.pop("tasks")]
        return Submission(**record, tasks=tasks)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a record of a submission: {error}") from error


def moved_file(folder: Path, number: int, index: int) -> Path:
    """Where a task of a submission tells that it goes on in another job; written by that task alone."""
    return folder / "submissions" / f"{number}.moved" / f"{index}.json"


def _moved(folder: Path, number: int) -> dict[int, str]:
    found = {}
    for path in (folder / "submissions" / f"{number}.moved").glob("*.json"):
        if path.stem.isdigit():
            found[int(path.stem)] = str(json.loads(path.read_text(encoding="utf-8"))["job_id"])
    return found


def read_all(folder: Path) -> list[Submission]:
    """Every submission of a sweep's folder, oldest first."""
    try:
        names = os.listdir(folder / "submissions")
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbers = sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())
    found = []
    for number in numbers:
        submission = read(path_of(folder, number))
        moved = _moved(folder, number) if f"{number}.moved" in names else {}
        found.append(replace(submission, moved=moved) if moved else submission)
    return found


def groups(entries: Sequence[Entry], pack: int) -> list[list[Entry]]:
    """Entries in groups of `pack`: the runs of each task."""
    return [list(entries[index : index + pack]) for index in range(0, len(entries), pack)]
