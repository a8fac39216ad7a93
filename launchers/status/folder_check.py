"""Runs whose files say nothing any more: shown as such, and started again with what is left of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers.store.records import DamagedRecord, LedgerError, read_record
from launchers.store.sweep_folder import attempts_folder

if TYPE_CHECKING:
    from launchers.status.run_status import RunStatus
    from launchers.store.ledger import Ledger


_AGAIN = "; cancel them and submit again"


class Reader:
    """Reads one run's records, and remembers what was wrong with them.

    Attributes:
        names: what the folder holds.
        damaged: file -> why it says nothing.
        unreadable: why something could not be read at all; '' if all could.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: dict[str, str] = {}
        self.unreadable = ""
        self.names: set[str] = set()
        try:
            self.names = set(os.listdir(folder))
            if "attempts" in self.names:
                os.listdir(attempts_folder(folder))
        except FileNotFoundError:
            pass
        except OSError as error:
            self.names = set()
            self.unreadable = f"{error.filename} cannot be read ({error.strerror})"

    def read(self, path: Path) -> dict[str, Any] | None:
        """A record, or None if it is not there or cannot be understood."""
        try:
            return read_record(path)
        except DamagedRecord as error:
            self.damaged[str(path.relative_to(self.folder))] = error.why
        except LedgerError as error:
            self.unreadable = str(error)
        return None

    def read_result(self, signature: str) -> dict[str, Any] | None:
        """result.json, if it is a whole one and this run's."""
        result = self.read(self.folder / "result.json")
        if result is not None and result["signature"] != signature:
            self.damaged["result.json"] = f"it is of another run, {result['signature']}"
            return None
        return result


def with_damage(status: RunStatus) -> RunStatus:
    """The standing, with what the files that could not be read mean for it.

    What can be told otherwise is told: a damaged state.json only hides the
    progress. Where a newer version wrote, or the disk fails, nobody can tell.
    """
    if status.state in ("done", "running", "pending"):
        return status
    if status.unreadable:
        return replace(status, state="unknown", detail=status.unreadable)
    matters = [f"{name} is damaged ({why})" for name, why in status.damaged if name != "state.json"]
    if not matters or status.state in ("unknown", "cancelled"):
        return status
    told = f"{'; '.join(matters)}; submit puts it aside and goes on from the last checkpoint"
    return replace(status, state="damaged", detail=told)


def notes_on_files(ledger: Ledger, statuses: Sequence[RunStatus]) -> list[str]:
    """What is missing from the sweep's folder or cannot be read there, and the way on, a line each."""
    notes = [
        f"{error}; before that, `scancel --name={ledger.job_name(number)}` ends the jobs that it told of"
        for number, error in ledger.faults.items()
    ]
    if ledger.paths.sweep_file.exists() and not ledger.paths.plan.exists():
        notes.append(
            "plan.json is gone, and with it the list of earlier runs; the next submit writes it anew"
        )
    if any(ledger.paths.submitit.glob("*_submission.sh")) and not ledger.paths.submissions.is_dir():
        notes.append(
            "submissions/ is gone, and with it which runs are queued; jobs that still are end at their start: "
            "scancel them (squeue --me tells their ids)"
        )
    jobs = ledger.newest_jobs()
    waiting = [
        jobs[one.signature].submission for one in statuses if one.state == "pending" and one.signature in jobs
    ]
    for code in {submission.code for submission in waiting}:
        if not Path(code).is_dir():
            count = sum(submission.code == code for submission in waiting)
            notes.append(f"{count} queued runs will fail: their copy of the code, {code}, is gone{_AGAIN}")
    if waiting and not ledger.paths.submitit.is_dir():
        notes.append(f"{len(waiting)} queued runs will fail: {ledger.paths.submitit} is gone{_AGAIN}")
    return notes
