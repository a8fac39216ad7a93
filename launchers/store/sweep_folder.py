"""Every path in a sweep's folder, by name.

::

    runs/<sweep>/
      sweep.yaml  plan.json                      what was planned, and when last
      submissions/<n>.json                       what SLURM was given: runs, attempts, job id
      submissions/<n>.moved/<task>.json          the job that a task is in now, if it was submitted again
      submitit/                                  batch scripts, and the logs of SLURM's jobs
      code/<hash>/                               the code that those jobs run
      report/                                    tables and figures
      failures/<fingerprint>/<run's folder>      runs that failed alike
      held.json                                  why no more runs start
      queue.json                                 runs that wait in a queue on a machine
      last_known.json  prefetched.json  .lock
      <run-name>-<signature>/
        config.json  state.json  result.json ...   (hyperformer.run_files.run_folder)
        cancelled.json                             if the user cancelled the run
        attempts/<n>/                              (launchers.store.attempts)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SweepFolder:
    """The paths in a sweep's folder. Nothing is read or written here."""

    path: Path

    @classmethod
    def of_record(cls, record: Path) -> SweepFolder:
        """The folder that a submission's record is in."""
        return cls(record.parents[1])

    @classmethod
    def of_run(cls, run_folder: Path) -> SweepFolder:
        """The folder that a run's folder is in."""
        return cls(run_folder.parent)

    @property
    def sweep_file(self) -> Path:
        """The copy of the sweep file as it was last submitted."""
        return self.path / "sweep.yaml"

    @property
    def plan(self) -> Path:
        return self.path / "plan.json"

    @property
    def submissions(self) -> Path:
        return self.path / "submissions"

    def submission(self, number: int) -> Path:
        return self.submissions / f"{number}.json"

    @property
    def submitit(self) -> Path:
        """Where submitit writes batch scripts and logs; every node must see it."""
        return self.path / "submitit"

    def job_logs(self, job_id: str, rank: int | str = 0) -> tuple[Path, Path]:
        """Standard output and error of a rank; both arguments may be what SLURM replaces, such as %j and %t."""
        return self.submitit / f"{job_id}_{rank}_log.out", self.submitit / f"{job_id}_{rank}_log.err"

    @property
    def code(self) -> Path:
        return self.path / "code"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def failures(self) -> Path:
        return self.path / "failures"

    @property
    def held(self) -> Path:
        return self.path / "held.json"

    @property
    def last_known(self) -> Path:
        return self.path / "last_known.json"

    @property
    def prefetched(self) -> Path:
        return self.path / "prefetched.json"

    @property
    def queue(self) -> Path:
        return self.path / "queue.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    def run(self, name: str) -> Path:
        """The folder of a run, by its name in a record."""
        return self.path / name


def moved_notes(record: Path) -> Path:
    """The folder in which the tasks of a submission record that they are in another job now."""
    return record.with_suffix(".moved")


def moved_note(record: Path, task: int) -> Path:
    """Where a task records that it is in another job now; only that task writes it."""
    return moved_notes(record) / f"{task}.json"


def cancelled_note(run_folder: Path) -> Path:
    """There if the user cancelled the run."""
    return run_folder / "cancelled.json"


def attempts_folder(run_folder: Path) -> Path:
    """Where a folder for each attempt at the run is."""
    return run_folder / "attempts"
