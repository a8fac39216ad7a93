"""Show the logs of runs, and follow them."""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from hyperformer.errors import HyperformerError
from launchers.plan.plan import Run
from launchers.status.polling import SLURM_S, Watch
from launchers.status.run_status import RunStatus
from launchers.store.attempts import Attempt, last_attempt
from launchers.store.ledger import Ledger
from launchers.store.submissions import QueuedJob
from launchers.store.sweep_folder import SweepFolder

_TICK_S = 0.5
_CHUNK = 1 << 16
_TRIES = 3


class Watched(Protocol):
    """The state of some runs: what :class:`launchers.sweep_view.View` has of it."""

    @property
    def statuses(self) -> Sequence[RunStatus]: ...

    @property
    def is_active(self) -> bool: ...


class LogFile(NamedTuple):
    """A log, and what to call it."""

    title: str
    path: Path


class _Reader:
    """Reads a log that grows, on a file server that may lose it for a moment."""

    def __init__(self, log: LogFile) -> None:
        self.log = log
        self.was_there = False
        self.fault = ""
        self._restart()

    def _restart(self) -> None:
        self._at = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def news(self) -> str | None:
        """What was written since the last call, at most one chunk; None if nothing was.

        A character that is cut at its end comes later.
        """
        for _ in range(_TRIES):
            try:
                with self.log.path.open("rb") as stream:
                    if stream.seek(0, io.SEEK_END) < self._at:  # another start has replaced it
                        self._restart()
                    stream.seek(self._at)
                    data = stream.read(_CHUNK)
            except FileNotFoundError:
                return None
            except OSError as error:  # such as ESTALE: the next try opens it again
                self.fault = error.strerror or str(error)
            else:
                self.fault = ""
                self.was_there = self.was_there or bool(data)
                self._at += len(data)
                return self._decode(data) if data else None
        return None

    def rest(self) -> str:
        """What is left of a character that was never written to its end."""
        return self._decode(b"", True)


def find(ledger: Ledger, runs: Sequence[Run], rank: int | None = 0) -> list[LogFile]:
    """The logs of each run's newest attempt.

    Args:
        rank: which rank's; None: those of all ranks.

    Raises:
        HyperformerError: none of the runs has so many ranks.
    """
    newest = ledger.newest_jobs()
    found, ranks = [], 0
    for run in runs:
        attempt = last_attempt(ledger.folder(run))
        job = newest.get(run.signature)
        if job and (attempt is None or job.run.attempt > attempt.number):
            attempt = Attempt.of(ledger.folder(run), job.run.attempt)
        if attempt is None:
            continue
        title = f"{run.name} (attempt {attempt.number})"
        if job and not attempt.job_file.exists() and len(job.runs) == 1:
            found += _of_a_job(title, attempt, job, rank, ledger.paths)
            ranks = max(ranks, job.submission.ranks)
        else:
            found += _named(title, attempt.logs) if not rank else []
            ranks = max(ranks, 1)
    if rank is not None and 0 < ranks <= rank:
        raise HyperformerError(f"--rank {rank}: these runs have no such rank; the last one is {ranks - 1}")
    return found


def _of_a_job(
    title: str, attempt: Attempt, job: QueuedJob, rank: int | None, paths: SweepFolder
) -> list[LogFile]:
    """The attempt's own logs, which rank 0 writes, after the job's.

    Those are there even if no run began, and all attempts in the job share them.
    """
    # Another job than the submission's may run it now.
    job_id = attempt.start.job_id or job.job_id
    found = []
    for one in range(job.submission.ranks):
        if rank not in (None, one):
            continue
        name = f"{title} rank {one}" if job.submission.ranks > 1 else title
        if job_id:
            found += _named(name, paths.job_logs(job_id, one), " of the job")
        if one == 0:
            found += _named(name, attempt.logs)
    return found


def _named(title: str, logs: Iterable[Path], what: str = "") -> list[LogFile]:
    """Standard output and standard error."""
    names = ("stdout.log", "stderr.log")
    return [LogFile(f"{title} {name}{what}", path) for name, path in zip(names, logs, strict=True)]


def show(find_logs: Callable[[], Sequence[LogFile]], view: Callable[[float], Watched] | None) -> bool:
    """Write logs to standard output.

    Args:
        find_logs: :func:`find`; called again while following, for an attempt that begins meanwhile.
        view: the state of the runs, by an answer of SLURM that may be so many seconds old: follow the logs
            until none of them is going or to start by itself; None: do not follow.

    Returns:
        Whether there was any log.
    """
    readers: dict[Path, _Reader] = {}
    shown: _Reader | None = None
    following = _Following(view) if view else None
    while True:
        # Asked before reading: what is written after that is read in the next round.
        more = following is not None and following.goes_on()
        if not readers or following is None or following.has_asked:
            for log in find_logs():
                readers.setdefault(log.path, _Reader(log))
        shown = _print_news(readers.values(), shown)
        if not more:
            break
        time.sleep(_TICK_S)
    for reader in readers.values():
        sys.stdout.write(reader.rest())
        if reader.fault:
            print(f"note: {reader.log.path} could not be read to its end: {reader.fault}", file=sys.stderr)
    return any(reader.was_there for reader in readers.values())


def _print_news(readers: Collection[_Reader], shown: _Reader | None) -> _Reader | None:
    """Print what was written to the logs; `shown` is the one that was printed last. Returns who is that now."""
    news = True
    while news:
        news = False
        for reader in readers:
            text = reader.news()
            if text is None:
                continue
            news = True
            if shown is not reader:
                print(f"==> {reader.log.title} <==")
                shown = reader
            sys.stdout.write(text)
            sys.stdout.flush()
    return shown


class _Following:
    """Whether there is more to follow, asked less and less often."""

    def __init__(self, view: Callable[[float], Watched]) -> None:
        self._view = view
        self._watch = Watch(SLURM_S)
        self._goes_on = True
        self.has_asked = False

    def goes_on(self) -> bool:
        self.has_asked = self._watch.is_due()
        if self.has_asked:
            view = self._view(self._watch.pause_s)
            self._goes_on = self._watch.goes_on(view.is_active, view.statuses)
        return self._goes_on
