"""The attempts of a run: the files of each, their order, and what their logs end with."""

from __future__ import annotations

import itertools
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.files import write_json
from launchers.store import redaction
from launchers.store.records import try_record


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

    @property
    def start(self) -> tuple[Any, Any]:
        """The job that began it and how often SLURM had requeued that; (None, None) before it began."""
        record = try_record(self.started) or {}
        return record.get("job_id"), record.get("restarts")

    def link_logs(self, stdout: Path, stderr: Path) -> None:
        """Let the two logs point at where submitit writes them."""
        for link, target in zip(self.logs, (stdout, stderr), strict=True):
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(target, link.parent))

    def write_outcome(self, status: str, **more: Any) -> None:
        """How the attempt ended, in words that hold no secrets: they end up in reports."""
        told = {key: _hidden(value) for key, value in more.items()}
        write_json(self.outcome, {"ended": time.time(), "status": status, **told})


def _hidden(value: Any) -> Any:
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return redaction.hide(value) if isinstance(value, str) else value


def attempts(run_folder: Path) -> list[Attempt]:
    """Every attempt of a run, oldest first."""
    try:
        numbers = [int(name) for name in os.listdir(run_folder / "attempts") if re.fullmatch("[0-9]+", name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [Attempt(run_folder / "attempts" / str(number)) for number in sorted(numbers)]


def last_attempt(run_folder: Path) -> Attempt | None:
    """The newest attempt of a run, or None before the first."""
    return next(reversed(attempts(run_folder)), None)


def put_aside(path: Path) -> Path | None:
    """Rename a damaged file, so that it stops nobody and nothing is thrown away; returns its new path."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged{number if number > 1 else ''}")
        if not aside.exists():
            break
    try:
        return path.rename(aside)
    except FileNotFoundError:
        return None


def next_attempt(folder: Path, first: int) -> Attempt:
    """The attempt that begins now. A job starts several times: in its place, or because SLURM requeued it.

    Args:
        first: the number of the job's first attempt.
    """
    taken = [a for a in attempts(folder) if a.number >= first and (a.started.exists() or a.outcome.exists())]
    return Attempt(folder / "attempts" / str(taken[-1].number + 1 if taken else first))


def this_start(job_id: str) -> tuple[str, int]:
    """This start of a job, as :attr:`Attempt.start` has it."""
    return job_id, int(os.environ.get("SLURM_RESTART_COUNT", "0"))


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


_CLOSING = re.compile(r"srun:|slurmstepd|attempt \d+ goes on in")


def last_words(log: str) -> str:
    """The last line of a log that tells something; '' if there is none."""
    told = [line.strip() for line in log.splitlines() if line.strip()]
    # SLURM's closing words, and our own, tell less than the line before them.
    own = [line for line in told if not _CLOSING.match(line)]
    return (own or told or [""])[-1][:300]


# A node that failed under a run is not given to it again for so long.
_OF_THE_NODE = ("node_failure", "gpu_failure")


_SHUN_S = 24 * 3600.0


def failed_nodes(run_folder: Path) -> list[str]:
    """Nodes that failed under a run within the last day."""
    nodes = set()
    for attempt in attempts(run_folder):
        outcome = try_record(attempt.outcome) or {}
        if outcome.get("kind") in _OF_THE_NODE and time.time() - outcome.get("ended", 0) < _SHUN_S:
            nodes.add((try_record(attempt.started) or {}).get("host"))
    return sorted(node for node in nodes if node)
