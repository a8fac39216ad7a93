"""The attempts of a run: the files of each, their order, and what their logs end with.

::

    attempts/<n>/job.json                 written at the start of a local run: which process it is
    attempts/<n>/started.json             written by the job: where it runs
    attempts/<n>/outcome.json             written by the job: how it ended (:class:`Outcome`)
    attempts/<n>/stdout.log  stderr.log   of rank 0
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from hyperformer.errors import clip
from hyperformer.files import write_json
from hyperformer.run_files.run_folder import RunFolder
from launchers.plan.failure_kinds import KINDS, Action, Kind
from launchers.store import redaction
from launchers.store.done_runs.summary import sum_up
from launchers.store.processes import is_alive, with_argument
from launchers.store.records import try_record
from launchers.store.sweep_folder import attempts_folder


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. The run tells the first part, the launcher what it decided (`launchers.job.finish`).

    Attributes:
        status: ``done``, ``stopped``, ``paused`` or ``failed``.
        message: of the error, or of the stop.
        error_type: class of the error; `causes` those of the errors behind it, nearest first.
        signal: the one that asked the run to stop.
        exit_code: of the process, where that is all there is to tell.
        kind: of the failure (:mod:`launchers.plan.failure_kinds`).
        then: what follows: ``end``, ``again`` or ``requeue``; None: not decided yet.
        why: the reason for `then`.
        ended: seconds since the epoch.
    """

    status: str
    message: str = ""
    error_type: str | None = None
    causes: tuple[str, ...] = ()
    errno: int | None = None
    traceback_tail: tuple[str, ...] = ()
    rank: int | None = None
    host: str | None = None
    signal: int | None = None
    exit_code: int | None = None
    kind: Kind | None = None
    then: Action | None = None
    why: str = ""
    step: int | None = None
    ended: float | None = None

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Outcome:
        """From outcome.json, as :mod:`launchers.store.records` has checked it."""
        names = [item.name for item in fields(cls) if record.get(item.name) is not None]
        values: dict[str, Any] = {name: record[name] for name in names}
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


class JobStart(NamedTuple):
    """One start of a job: SLURM may start the same job several times."""

    job_id: str | None
    restarts: int | None


@dataclass(frozen=True)
class Attempt:
    """One time that a run was started."""

    folder: Path

    @classmethod
    def of(cls, run_folder: Path, number: int) -> Attempt:
        return cls(attempts_folder(run_folder) / str(number))

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def run_folder(self) -> Path:
        return self.folder.parents[1]

    @property
    def job_file(self) -> Path:
        return self.folder / "job.json"

    @property
    def started_file(self) -> Path:
        return self.folder / "started.json"

    @property
    def outcome_file(self) -> Path:
        return self.folder / "outcome.json"

    @property
    def logs(self) -> tuple[Path, Path]:
        """Standard output and standard error of rank 0."""
        return self.folder / "stdout.log", self.folder / "stderr.log"

    @property
    def has_begun(self) -> bool:
        """Whether it was handed to a process: its number is taken."""
        names = (self.job_file.name, self.started_file.name, self.outcome_file.name)
        with suppress(FileNotFoundError):  # one that was damaged has a longer name now
            return any(name.startswith(names) for name in os.listdir(self.folder))
        return False

    def read_started(self) -> dict[str, Any]:
        """started.json; {} where it is not there or cannot be understood."""
        return try_record(self.started_file) or {}

    def read_outcome(self) -> Outcome | None:
        """outcome.json; None where it is not there or cannot be understood."""
        record = try_record(self.outcome_file)
        return None if record is None else Outcome.of_record(record)

    def read_processes(self) -> list[dict[str, Any]]:
        """Of a local attempt: the process that trains, as it told of itself, and as its launcher recorded it.

        Before there was :mod:`launchers.job.run_process`, the launcher recorded another one, which waited for it.
        """
        records = [self.read_started(), try_record(self.job_file) or {}]
        recorded = [record for record in records if "pid" in record]
        # One that has only just begun has not told of itself yet.
        beginning = None if records[0] or any(map(is_alive, recorded)) else with_argument(self.folder)
        return [beginning, *recorded] if beginning else recorded

    @property
    def start(self) -> JobStart:
        """The start of the job that began it; JobStart(None, None) before it began."""
        record = self.read_started()
        return JobStart(record.get("job_id"), record.get("restarts"))

    def write_outcome(self, outcome: Outcome) -> None:
        """Write how the attempt ended, without secrets: the text ends up in reports."""
        known = {key: value for key, value in asdict(outcome).items() if value not in (None, "", ())}
        hidden = {key: _without_secrets(value) for key, value in known.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        summary = self._summary() if outcome.status == "done" else None
        more = {} if summary is None else {"summary": summary}
        write_json(self.outcome_file, {"ended": time.time(), **hidden, **more})

    def _summary(self) -> dict[str, Any] | None:
        return sum_up(RunFolder(self.run_folder), self.started_file, self.job_file)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_without_secrets(item) for item in value]
    return redaction.hide(value) if isinstance(value, str) else value


def attempts(run_folder: Path) -> list[Attempt]:
    """Every attempt of a run, oldest first."""
    try:
        names = os.listdir(attempts_folder(run_folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [Attempt.of(run_folder, number) for number in sorted(map(int, filter(_NUMBER.fullmatch, names)))]


_NUMBER = re.compile("[0-9]+")


def last_attempt(run_folder: Path, first: int = 0) -> Attempt | None:
    """The newest attempt of a run from number `first` on, or None before that."""
    newest = next(reversed(attempts(run_folder)), None)
    return newest if newest and newest.number >= first else None


def next_attempt(run_folder: Path, first: int = 1) -> Attempt:
    """The attempt that begins next. Every number of an attempt is decided here.

    A job starts several times: in its place, or because SLURM requeued it. Each start is an attempt.

    Args:
        first: the number of the job's first attempt.
    """
    begun = next((a for a in reversed(attempts(run_folder)) if a.number < first or a.has_begun), None)
    return Attempt.of(run_folder, max(first, begun.number + 1 if begun else 1))


def rename_damaged(path: Path) -> Path | None:
    """Rename a damaged file, so that it is out of the way and nothing is lost; returns its new path."""
    for number in itertools.count(1):
        renamed = path.with_name(f"{path.name}.damaged{number if number > 1 else ''}")
        if not renamed.exists():
            break
    try:
        return path.rename(renamed)
    except FileNotFoundError:
        return None


def this_start(job_id: str) -> JobStart:
    """This start of a job, as :attr:`Attempt.start` has it."""
    return JobStart(job_id, int(os.environ.get("SLURM_RESTART_COUNT", "0")))


_TAIL_BYTES = 16_384


def tail(path: Path, since: int = 0) -> str:
    """The end of a log, at most what comes after `since` bytes; '' if there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(since, stream.tell() - _TAIL_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


_CLOSING = re.compile(r"srun:|slurmstepd|attempt \d+ (writes to|goes on in)")


def last_log_line(log: str) -> str:
    """The last informative line of a log; '' if there is none."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    # SLURM's closing words, and our own, tell less than the line before them.
    own = [line for line in lines if not _CLOSING.match(line)]
    return clip((own or lines or [""])[-1], 300)


_OF_THE_NODE = frozenset(name for name, kind in KINDS.items() if kind.blames_node)
# A node that failed under a run does not get it again within a day.
_SHUN_S = 24 * 3600.0


def failed_nodes(run_folder: Path) -> list[str]:
    """Nodes that failed under a run within the last day."""
    nodes = set()
    for attempt in attempts(run_folder):
        outcome = attempt.read_outcome()
        if outcome and outcome.kind in _OF_THE_NODE and time.time() - (outcome.ended or 0) < _SHUN_S:
            nodes.add(attempt.read_started().get("host"))
    return sorted(node for node in nodes if node)
