"""The sweep's folder: the only record of what was started and how it ended.

:mod:`launchers.store.sweep_folder` has its paths.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.files import atomic_write, sweep_leftovers, write_json
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.build import replace
from launchers.plan.plan import Plan, RecordedRun, Run
from launchers.store import submissions
from launchers.store.attempts import Attempt, Outcome, next_attempt, rename_damaged
from launchers.store.records import SCHEMA, DamagedRecord, LedgerError, read_record
from launchers.store.submissions import QueuedJob, Submission
from launchers.store.sweep_folder import SweepFolder, cancelled_note

__all__ = ["Ledger", "LedgerError"]


def last_cluster(paths: SweepFolder) -> str | None:
    """Where runs of the sweep were started last, as `--cluster` takes it; None: never."""
    with suppress(LedgerError):  # what cannot be read is reported where it matters more
        argument = _read_plan(paths).get("cluster")
        if isinstance(argument, str):
            return argument
    found, _ = submissions.read_all(paths)
    return found[-1].cluster if found else None


def _read_plan(paths: SweepFolder) -> dict[str, Any]:
    """plan.json; {} if it is damaged, for all of it can be had again."""
    try:
        return read_record(paths.plan) or {}
    except DamagedRecord:
        return {}


class Ledger:
    """The folder of one sweep.

    Attributes:
        paths: what is in the folder, by name.
        folders: signature -> folder of each run that had one when the ledger last looked.
        faults: number of a submission -> why its record cannot be read; known after :meth:`submissions`.
    """

    def __init__(self, plan: Plan, runs_dir: Path) -> None:
        self.paths = SweepFolder(runs_dir.absolute() / plan.name)
        self.faults: dict[int, LedgerError] = {}
        self.folders: dict[str, Path] = {}
        self._planned: dict[str, Path] = {}
        self._submissions: list[Submission] | None = None
        self._newest: dict[str, QueuedJob] | None = None
        self._find_folders()
        self.plan = plan.with_recorded(self._recorded())

    @property
    def path(self) -> Path:
        """The sweep's folder itself."""
        return self.paths.path

    def _find_folders(self) -> None:
        before = {path.name: path for path in self.folders.values()}
        self.folders.clear()
        with suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(self.path):
                if "-" in name and not name.startswith("."):
                    self.folders[name.rpartition("-")[2]] = before.get(name) or self.paths.run(name)

    def _recorded(self) -> dict[str, RecordedRun]:
        """Each run that exists, by signature; of one that has a folder only, nothing is recorded."""
        runs = self.known_runs() if self.path.is_dir() else {}
        found = {one: runs.get(one, {}) for one in (*(one for one in self.folders if one not in runs), *runs)}
        return {
            one: RecordedRun(entry.get("settings"), entry.get("contents") or {})
            for one, entry in found.items()
        }

    def folder(self, run: Run) -> Path:
        """The run's folder. Found by its signature: its name may have changed with the sweep file."""
        found = self.folders.get(run.signature) or self._planned.get(run.signature)
        if found is None:
            found = self._planned[run.signature] = self.paths.run(f"{run.name}-{run.signature}")
        return found

    def folder_text(self, run: Run) -> str:
        """:meth:`folder` as a text: to make thousands of paths takes longer than to list the sweep's folder."""
        return str(self.folders.get(run.signature) or f"{self.path}/{run.name}-{run.signature}")

    def look_for_folder(self, run: Run) -> None:
        """See whether the run has a folder by now."""
        folder = self.folder(run)
        if folder.is_dir():
            self.folders[run.signature] = folder

    def has_folder(self, run: Run) -> bool:
        """Whether the run had a folder when the ledger last looked: one that never began has none."""
        return run.signature in self.folders

    def refresh(self) -> None:
        """Read again what others may have written."""
        self._submissions = None
        self._find_folders()

    # The plan

    def check_owner(self) -> None:
        """Check that the folder is this sweep's.

        Raises:
            ConfigError: it holds the runs of another sweep file.
        """
        record = _read_plan(self.paths)
        if not record:
            return
        source = Path(str(record.get("source")))
        copy = self.paths.sweep_file
        same = copy.is_file() and copy.read_bytes() == self.plan.text.encode()
        if source != self.plan.source and source.is_file() and not same:
            raise ConfigError(
                f"{self.path} holds the runs of {source}; give {self.plan.source} a `name:` of its own, "
                "or choose another --runs-dir"
            )

    def commit(self, cluster: str | None = None, gone: Iterable[str] = ()) -> None:
        """Write the copy of the sweep file and the plan. Runs of earlier plans stay in it.

        Args:
            cluster: where runs start now, as `--cluster` takes it; :func:`last_cluster` remembers it.
            gone: signatures of runs whose folders other runs have now.
        """
        self.check_owner()
        cluster = cluster or last_cluster(self.paths)
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.paths.submissions, self.paths.report, self.paths.code):
            sweep_leftovers(folder)
        with atomic_write(self.paths.sweep_file) as stream:
            stream.write(self.plan.text)
        known = self.known_runs()
        if not known and self.paths.plan.exists():
            rename_damaged(self.paths.plan)
        for one in gone:
            known.pop(one, None)
        for run in self.plan.runs:
            before = known.pop(
                run.signature, {}
            )  # to the end: the last of several with equal settings is the latest
            held = run.settings_hash if run.is_read else None
            held = before.get("settings") if run.config.known_as else held
            contents = {**run.contents_now, **(before.get("contents") or {})}
            known[run.signature] = {
                "name": run.name,
                "folder": self.folder(run).name,
                "variant": run.config.variant,
                "tasks": list(run.config.data.tasks),
                "differs": dict(run.differs),
                **({"settings": held} if held else {}),
                **({"contents": contents} if contents else {}),
            }
        head = {
            "schema": SCHEMA, "name": self.plan.name, "source": str(self.plan.source),
            **({"cluster": cluster} if cluster else {}),
        }  # fmt: skip
        encode = json.JSONEncoder(ensure_ascii=False).encode
        lines = ",\n".join(f"  {encode(signature)}: {encode(entry)}" for signature, entry in known.items())
        with atomic_write(self.paths.plan) as stream:  # one line per run
            stream.write(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "runs": {{\n{lines}\n}}}}\n')

    def known_runs(self) -> dict[str, dict[str, Any]]:
        """Every run that was ever planned here, by signature."""
        return dict(_read_plan(self.paths).get("runs", {}))

    # What SLURM was given

    def submissions(self) -> list[Submission]:
        """What was handed to SLURM so far, oldest first."""
        if self._submissions is None:
            self._submissions, self.faults = submissions.read_all(self.paths)
            self._newest = None
        return self._submissions

    def newest_jobs(self) -> dict[str, QueuedJob]:
        """By signature: the last job that a run was handed to SLURM in."""
        submissions = self.submissions()
        if self._newest is None:
            self._newest = {
                run.signature: QueuedJob(submission, index, run)
                for submission in submissions
                for index, task in enumerate(submission.tasks)
                for run in task
            }
        return self._newest

    def next_submission(self) -> int:
        """A number that no submission had, a damaged one included: jobs find their record by it."""
        return max((number for number, _ in submissions.numbers(self.paths)), default=0) + 1

    def job_name(self, number: int) -> str:
        """A name that no other submission has: job ids are used again where slurmctld lost its state."""
        token = hashlib.sha256(f"{self.path}/{number}".encode(errors="surrogateescape")).hexdigest()[:6]
        return f"hyperformer-{self.plan.name}-{token}"

    def record_submission(self, submission: Submission, lines: str | None = None) -> Path:
        """Write a submission's record; `lines` as :func:`launchers.store.submissions.write` takes them."""
        path = submissions.write(self.paths, submission, lines)
        self._submissions = None
        return path

    def replace_submission(self, submission: Submission) -> None:
        """Use this submission from now on, without writing it."""
        self._submissions = [
            submission if each.number == submission.number else each for each in self.submissions()
        ]
        self._newest = None

    # Attempts at runs

    def next_number(self, run: Run) -> int:
        """The number of the run's next attempt; one that is queued has its number already."""
        queued = self.newest_jobs().get(run.signature)
        first = queued.run.attempt + 1 if queued else 1
        return next_attempt(self.folder(run), first).number if self.has_folder(run) else first

    def new_attempt(self, run: Run) -> Attempt:
        """Make ready to start the run: its folder with its config, and the folder of the next attempt."""
        folder = self.folder(run)
        RunFolder(folder).claim(replace(run.config, output_dir=str(folder)))
        attempt = Attempt.of(folder, self.next_number(run))
        attempt.folder.mkdir(parents=True, exist_ok=True)
        self.folders[run.signature] = folder
        return attempt

    def note_not_started(self, run: Run, why: Outcome) -> None:
        """Write down why a local run was not started; `status` shows it."""
        attempt = self.new_attempt(run)
        write_json(attempt.job_file, {"cluster": "local"})
        attempt.write_outcome(why)

    def rename_damaged(self, damaged: Iterable[tuple[Run, str]]) -> list[str]:
        """Rename damaged files of runs that are to start again; returns a line on each."""
        notes = []
        for run, name in damaged:
            renamed = rename_damaged(self.folder(run) / name)
            if renamed:
                notes.append(
                    f"{run.name}: {name} was damaged and is {renamed.name} now; the run resumes without it"
                )
        return notes

    def mark_cancelled(self, run: Run) -> None:
        """Remember that the user does not want the run; the next submit forgets it."""
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        self.folders[run.signature] = folder
        write_json(cancelled_note(folder), {"at": time.time()})

    def forget_cancelled(self, runs: Iterable[Run]) -> None:
        """The user wants these runs again."""
        for run in filter(self.has_folder, runs):
            cancelled_note(self.folder(run)).unlink(missing_ok=True)
