"""Every path in a sweep's folder, by name.

::

    runs/<sweep>/
      sweep.yaml  plan.json                      the sweep file as it was last submitted, and its runs
      submissions/<n>.json                       what SLURM was given: runs, attempts, job id
      submissions/<n>.moved/<task>.json          the job that a task is in now, if it was submitted again
      submitit/                                  batch scripts, and the logs of SLURM's jobs; every node must see it
      code/<hash>/                               the code that those jobs run
      report/                                    tables and figures
      .report.wanted.json  .report.json  .report.lock    whether the page lacks something (launchers.report.page_redraw)
      failures/<fingerprint>/<run's folder>      runs that failed alike
      held.json                                  why no more runs start
      gate.json  gate.sh  gate.log               the job that starts a stage, or continues a race
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

from hyperformer.files import Entry


@dataclass(frozen=True)
class SweepFolder:
    """The paths in a sweep's folder. Nothing is read or written here."""

    path: Path

    sweep_file = Entry("sweep.yaml")
    plan = Entry("plan.json")
    submissions = Entry("submissions")
    submitit = Entry("submitit")
    code = Entry("code")
    report = Entry("report")
    report_wanted = Entry(".report.wanted.json")
    report_drawn = Entry(".report.json")
    report_lock = Entry(".report.lock")
    failures = Entry("failures")
    held_file = Entry("held.json")
    last_known = Entry("last_known.json")
    prefetched = Entry("prefetched.json")
    queue = Entry("queue.json")
    lock = Entry(".lock")

    @classmethod
    def of_record(cls, record: Path) -> SweepFolder:
        """The folder that a submission's record is in."""
        return cls(record.parents[1])

    @classmethod
    def of_run(cls, run_folder: Path) -> SweepFolder:
        """The folder that a run's folder is in."""
        return cls(run_folder.parent)

    def submission(self, number: int) -> Path:
        return self.submissions / f"{number}.json"

    def job_logs(self, job_id: str, rank: int | str = 0) -> tuple[Path, Path]:
        """Standard output and error of a rank; both arguments may be what SLURM replaces, such as %j and %t."""
        return self.submitit / f"{job_id}_{rank}_log.out", self.submitit / f"{job_id}_{rank}_log.err"

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
