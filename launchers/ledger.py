"""The sweep's folder: the only record of what was started and what came of it.

::

    runs/<sweep>/
      sweep.yaml  plan.json  report/
      submissions/<n>.json                       what SLURM was given: runs, attempts, job id
      submitit/                                  what submitit writes for job arrays
      code/<hash>/                               the code that those jobs run
      <run-name>-<signature>/
        config.json  state.json  result.json ...   (hyperformer.run_folder)
        cancelled.json                             if the user cancelled the run
        attempts/<n>/job.json                      written at the start of a local run
        attempts/<n>/started.json                  written by the job: where it runs
        attempts/<n>/outcome.json                  written by the job: how it ended
        attempts/<n>/stdout.log  stderr.log
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.config import replace
from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.files import atomic_write, read_json, write_json
from hyperformer.run_folder import RunFolder
from launchers import submission_files
from launchers.plan import Plan, Run
from launchers.submission_files import Entry, Submission

SCHEMA = 1


class LedgerError(HyperformerError):
    """A file of the sweep's folder cannot be understood."""


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object of the ledger, or None if the file is not there.

    Raises:
        LedgerError: it holds something else.
    """
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path} cannot be read ({error}); move it away and ask again") from error
    if record is not None and not isinstance(record, dict):
        raise LedgerError(f"{path} holds no JSON object; move it away and ask again")
    return record


@dataclass(frozen=True)
class Attempt:
    """One time that a run was started."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def job(self) -> Path:
        return self.folder / "job.json"

    @property
    def started(self) -> Path:
        return self.folder / "started.json"

    @property
    def outcome(self) -> Path:
        return self.folder / "outcome.json"

    @property
    def logs(self) -> tuple[Path, Path]:
        """Standard output and standard error of rank 0."""
        return self.folder / "stdout.log", self.folder / "stderr.log"

    def link_logs(self, stdout: Path, stderr: Path) -> None:
        """Let the two logs point at where submitit writes them."""
        for link, target in zip(self.logs, (stdout, stderr), strict=True):
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(target, link.parent))

    def write_outcome(self, status: str, **more: Any) -> None:
        write_json(self.outcome, {"status": status, **more, "ended": time.time()})


def attempts(run_folder: Path) -> list[Attempt]:
    """Every attempt of a run, oldest first."""
    try:
        numbers = [int(name) for name in os.listdir(run_folder / "attempts") if name.isdigit()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [Attempt(run_folder / "attempts" / str(number)) for number in sorted(numbers)]


def last_attempt(run_folder: Path) -> Attempt | None:
    """The newest attempt of a run, or None before the first."""
    return next(reversed(attempts(run_folder)), None)


class Ledger:
    """The folder of one sweep."""

    def __init__(self, plan: Plan, runs_dir: Path) -> None:
        self.plan = plan
        self.path = runs_dir.absolute() / plan.name
        self.report = self.path / "report"
        self.submitit = self.path / "submitit"
        self._folders: dict[str, Path] = {}
        self._submissions: list[Submission] | None = None
        self._find_folders()

    def _find_folders(self) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(self.path):
                if "-" in name:
                    self._folders[name.rpartition("-")[2]] = self.path / name

    def folder(self, run: Run) -> Path:
        """The run's folder. Found by its signature: its name may have changed with the sweep file."""
        return self._folders.get(run.signature, self.path / f"{run.name}-{run.signature}")

    def check_owner(self) -> None:
        """See that the folder is this sweep's.

        Raises:
            ConfigError: it holds the runs of another sweep file.
        """
        record = read_record(self.path / "plan.json")
        if record is None:
            return
        if record.get("schema") != SCHEMA:
            raise LedgerError(
                f"{self.path / 'plan.json'} was written by another version of HyperFormer "
                f"(schema {record.get('schema')!r}, here {SCHEMA}); use that version, or another --runs-dir"
            )
        source = Path(str(record.get("source")))
        copy = self.path / "sweep.yaml"
        same = copy.is_file() and copy.read_text(encoding="utf-8") == self.plan.text
        if source != self.plan.source and source.is_file() and not same:
            raise ConfigError(
                f"{self.path} holds the runs of {source}; give {self.plan.source} a `name:` of its own, "
                "or choose another --runs-dir"
            )

    def commit(self) -> None:
        """Write the copy of the sweep file and the plan. Runs of earlier plans stay in it."""
        self.check_owner()
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path / "sweep.yaml") as stream:
            stream.write(self.plan.text)
        known = self.known_runs()
        for run in self.plan.runs:
            known[run.signature] = {
                "name": run.name,
                "folder": self.folder(run).name,
                "variant": run.config.variant,
                "tasks": list(run.config.data.tasks),
                "differs": dict(run.differs),
            }
        head = {"schema": SCHEMA, "name": self.plan.name, "source": str(self.plan.source)}
        lines = ",\n".join(
            f"  {json.dumps(mark)}: {json.dumps(entry, ensure_ascii=False)}" for mark, entry in known.items()
        )
        with atomic_write(self.path / "plan.json") as stream:  # a line a run
            stream.write(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "runs": {{\n{lines}\n}}}}\n')

    def known_runs(self) -> dict[str, dict[str, Any]]:
        """Every run that was ever planned here, by signature."""
        record = read_record(self.path / "plan.json")
        return dict(record.get("runs", {})) if record else {}

    def submissions(self) -> list[Submission]:
        """What was handed to SLURM so far, oldest first."""
        if self._submissions is None:
            try:
                self._submissions = submission_files.read_all(self.path)
            except (OSError, ValueError) as error:
                raise LedgerError(f"{error}; move it away and ask again") from error
        return self._submissions

    def refresh(self) -> None:
        """Read anew what others may have written."""
        self._submissions = None
        self._find_folders()

    def newest_jobs(self) -> dict[str, tuple[Submission, int, Entry]]:
        """By signature: the last submission of a run, the task that it is in, and its entry."""
        return {
            entry.signature: (submission, index, entry)
            for submission in self.submissions()
            for index, task in enumerate(submission.tasks)
            for entry in task
        }

    def record_submission(self, submission: Submission) -> Path:
        path = submission_files.write(self.path, submission)
        self._submissions = None
        return path

    def new_attempt(self, run: Run) -> Attempt:
        """Make ready to start the run: its folder with its config, and the folder of the next attempt."""
        folder = self.folder(run)
        RunFolder(folder).claim(replace(run.config, output_dir=str(folder)))
        attempt = Attempt(folder / "attempts" / str(self.next_number(run)))
        attempt.folder.mkdir(parents=True)
        self._folders[run.signature] = folder
        return attempt

    def next_number(self, run: Run) -> int:
        """The number of the run's next attempt."""
        last = last_attempt(self.folder(run))
        job = self.newest_jobs().get(run.signature) if self._submissions or last is None else None
        return max(last.number if last else 0, job[2].attempt if job else 0) + 1

    def forget_cancelled(self, runs: Iterable[Run]) -> None:
        """The user wants these runs again."""
        for run in runs:
            (self.folder(run) / "cancelled.json").unlink(missing_ok=True)

    def mark_cancelled(self, run: Run) -> None:
        """Remember that the user does not want the run; the next submit forgets it."""
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "cancelled.json", {"at": time.time()})
