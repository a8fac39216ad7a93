"""Show the logs of runs, and follow them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launchers.plan.runs import Run
from launchers.store.attempts import Attempt, last_attempt
from launchers.store.ledger import Ledger
from launchers.store.submissions import QueuedJob
from launchers.store.sweep_folder import SweepFolder

_TICK_S = 0.5
_CHUNK = 1 << 16


@dataclass
class _Log:
    title: str
    path: Path
    at: int = 0  # bytes shown so far

    def news(self) -> bytes:
        """What was written since the last call; at most one chunk."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.at)
                data = stream.read(_CHUNK)
        except FileNotFoundError:
            return b""
        self.at += len(data)
        return data


def find(ledger: Ledger, runs: Sequence[Run], rank: int | None = 0) -> list[tuple[str, list[Path]]]:
    """The logs of each run's newest attempt: (title, files).

    Args:
        rank: which rank's; None: those of all ranks.
    """
    newest = ledger.newest_jobs()
    found = []
    for run in runs:
        attempt = last_attempt(ledger.folder(run))
        job = newest.get(run.signature)
        if job and (attempt is None or job.run.attempt > attempt.number):
            attempt = Attempt.of(ledger.folder(run), job.run.attempt)
        if job and attempt and not attempt.job_file.exists() and len(job.runs) == 1 and job.job_id:
            found += _of_a_job(run, attempt, job, rank, ledger.paths)
            continue
        if attempt is not None:
            found.append((f"{run.name} (attempt {attempt.number})", list(attempt.logs)))
    return found


def _of_a_job(
    run: Run, attempt: Attempt, job: QueuedJob, rank: int | None, paths: SweepFolder
) -> list[tuple[str, list[Path]]]:
    """The attempt's own logs, which rank 0 writes, after the job's, which are there even if no run began."""
    found = []
    ranks = job.submission.ranks
    for one in range(ranks) if rank is None else [rank]:
        told = f"{run.name} (attempt {attempt.number}){f' rank {one}' if ranks > 1 else ''}"
        found.append((told, [*paths.job_logs(job.job_id or "", one), *(attempt.logs if one == 0 else ())]))
    return found


def show(found: Sequence[tuple[str, list[Path]]], follow: bool, going: Callable[[], bool]) -> bool:
    """Write logs to standard output.

    Args:
        found: of :func:`find`.
        follow: go on until `going` says that no run is going any more.

    Returns:
        Whether there was any log.
    """
    logs = [
        _Log(
            f"{title} {'stderr.log' if place % 2 else 'stdout.log'}{' of the job' if len(paths) > place + 2 else ''}",
            path,
        )
        for title, paths in found
        for place, path in enumerate(paths)
    ]
    shown: _Log | None = None
    while True:
        more = follow and going()  # asked before reading: what is written after it is read in the next round
        news = True
        while news:
            news = False
            for log in logs:
                data = log.news()
                if data:
                    news = True
                    if shown is not log:
                        print(f"==> {log.title} <==")
                        shown = log
                    sys.stdout.write(data.decode(errors="replace"))
                    sys.stdout.flush()
        if not more:
            return any(log.at for log in logs)
        time.sleep(_TICK_S)
