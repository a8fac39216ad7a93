"""The sweep's folder: the only record of what was started and what came of it.

::

    runs/<sweep>/
      sweep.yaml  plan.json  report/  submitit/ (what submitit writes for job arrays)
      <run-name>-<signature>/
        config.json  state.json  result.json ...   (hyperformer.run_folder)
        cancelled.json                             if the user cancelled the run
        attempts/<n>/job.json                      written at submit: cluster, job id
        attempts/<n>/started.json                  written by the job: where it runs
        attempts/<n>/outcome.json                  written by the job: how it ended
        attempts/<n>/stdout.log  stderr.log
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.config import replace
from hyperformer.errors import ConfigError, HyperformerError
from hyperformer.files import atomic_write, read_json, write_json
from hyperformer.run_folder import RunFolder
from launchers.plan import Plan, Run

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


def last_attempt(run_folder: Path) -> Attempt | None:
    """The newest attempt of a run, or None before the first."""
    try:
        numbers = [int(entry.name) for entry in os.scandir(run_folder / "attempts") if entry.name.isdigit()]
    except FileNotFoundError:
        return None
    return Attempt(run_folder / "attempts" / str(max(numbers))) if numbers else None


class Ledger:
    """The folder of one sweep."""

    def __init__(self, plan: Plan, runs_dir: Path) -> None:
        self.plan = plan
        self.path = runs_dir.absolute() / plan.name
        self.report = self.path / "report"
        self.submitit = self.path / "submitit"
        self._folders: dict[str, Path] = {}
        if self.path.is_dir():
            for entry in os.scandir(self.path):
                if entry.is_dir():
                    self._folders[entry.name.rpartition("-")[2]] = Path(entry.path)

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
        write_json(
            self.path / "plan.json",
            {"schema": SCHEMA, "name": self.plan.name, "source": str(self.plan.source), "runs": known},
        )

    def known_runs(self) -> dict[str, dict[str, Any]]:
        """Every run that was ever planned here, by signature."""
        record = read_record(self.path / "plan.json")
        return dict(record.get("runs", {})) if record else {}

    def new_attempt(self, run: Run) -> Attempt:
        """Make ready to start the run: its folder with its config, and the folder of the next attempt."""
        folder = self.folder(run)
        RunFolder(folder).claim(replace(run.config, output_dir=str(folder)))
        last = last_attempt(folder)
        attempt = Attempt(folder / "attempts" / str(last.number + 1 if last else 1))
        attempt.folder.mkdir(parents=True)
        self._folders[run.signature] = folder
        return attempt

    def forget_cancelled(self, runs: Iterable[Run]) -> None:
        """The user wants these runs again."""
        for run in runs:
            (self.folder(run) / "cancelled.json").unlink(missing_ok=True)

    def mark_cancelled(self, run: Run) -> None:
        """Remember that the user does not want the run; the next submit forgets it."""
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "cancelled.json", {"at": time.time()})
