"""The record of what was handed to SLURM: one file an array, ``submissions/<n>.json``.

It is written before sbatch is called and again with the job id. Jobs read in
it what they are to run; status reads in it which job a run is in. So a
thousand runs cost one file at submit, and each job makes its run's folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyperformer.config import RunConfig, make_config
from hyperformer.files import atomic_write

_SECTIONS = ("model", "adapter", "data", "training")


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
    """One array. `tasks`: the runs of each of its tasks, several where they are packed."""

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

    def task_id(self, index: int) -> str | None:
        """SLURM's name for a task; a submission of one is no array."""
        if self.job_id is None or len(self.tasks) == 1:
            return self.job_id
        return f"{self.job_id}_{index}"


def entry_settings(config: RunConfig) -> dict[str, Any]:
    """The flat settings that differ from the defaults."""
    found: dict[str, Any] = {}
    for mine, defaults in zip(_parts(config), _DEFAULTS, strict=True):
        for key, default in defaults.items():
            value = mine[key]
            if value != default:
                found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _parts(config: RunConfig) -> list[dict[str, Any]]:
    """The settings by section. A setting may bear the name of a section: `adapter` does."""
    top = {key: value for key, value in vars(config).items() if key not in (*_SECTIONS, "output_dir")}
    return [top, *(vars(getattr(config, name)) for name in _SECTIONS)]


_DEFAULTS = _parts(RunConfig())


def write(folder: Path, submission: Submission) -> Path:
    """Write the record; `folder` is the sweep's. Returns its path."""
    path = folder / "submissions" / f"{submission.number}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = dict(vars(submission))
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


def read_all(folder: Path) -> list[Submission]:
    """Every submission of a sweep's folder, oldest first."""
    try:
        numbers = sorted(
            int(name.removesuffix(".json"))
            for name in os.listdir(folder / "submissions")
            if name.removesuffix(".json").isdigit()
        )
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [read(folder / "submissions" / f"{number}.json") for number in numbers]


def groups(entries: Sequence[Entry], pack: int) -> list[list[Entry]]:
    """Entries in groups of `pack`: the runs of each task."""
    return [list(entries[index : index + pack]) for index in range(0, len(entries), pack)]
