"""Why a run waits or failed, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hyperformer.errors import clip
from hyperformer.settings.build import flatten
from launchers.plan.plan import Run
from launchers.plan.run_names import value_text
from launchers.slurm.states import end_words, explain_reason
from launchers.status.run_status import BAD, RunStatus
from launchers.store import attempts
from launchers.store.attempts import last_attempt
from launchers.store.ledger import Ledger
from launchers.store.waiting_runs import queue_owner


def why(status: RunStatus, ledger: Ledger) -> str | None:
    """A plain line on a run that waits or did not end well; None for the others."""
    line = status.detail if status.unreadable else None
    if status.state in _LINES:
        line = _LINES[status.state](status, ledger)
    return clip(line, _MOST) if line else None


def _why_pending(status: RunStatus, ledger: Ledger) -> str:
    reason = status.reason or status.detail or "None"
    words = explain_reason(reason, status.job_id or "JOB", status.slurm_cluster)
    start = status.expected_start
    return (
        (words if reason == "None" else f"{reason}: {words}")
        + (f"; expected to start at {start.replace('T', ' ')}" if start else "")
    )  # fmt: skip


def _why_failed(status: RunStatus, ledger: Ledger) -> str:
    text = " ".join(status.detail.split())
    message = text.partition(": ")[2] or text
    if status.note:
        # A launcher's own words are in both.
        text = (
            text.removesuffix(message) + status.note
            if status.note.startswith(message)
            else f"{text}; {status.note}"
        )
        return f"{text}; raise `mem_gb`, then `retry --oom`" if status.kind == "out_of_memory" else text
    parts = [text]
    how = end_words(status.slurm_state or "", status.reason or "")
    if how not in text:
        parts.append(how)
    last = last_log_line(status, ledger)
    if last not in text and message not in last:
        parts.append(f"last line of its log: {last}")
    return "; ".join(filter(None, parts))


def _why_stopped(status: RunStatus, ledger: Ledger) -> str:
    text = status.note or status.detail
    return f"it stopped{': ' + text if text else ''}; submit resumes it from its last checkpoint"


_MOST = 600
_LINES: dict[str, Callable[[RunStatus, Ledger], str]] = {
    "pending": _why_pending,
    "waiting": lambda status, ledger: f"waits for a place: it is in the queue of {queue_owner(ledger.paths)}",
    "unknown": lambda status, ledger: (
        status.detail or "its submit was interrupted, or is not over: SLURM has not told its job id"
    ),
    "failed": _why_failed,
    "lost": _why_failed,
    "stopped": _why_stopped,
    "paused": lambda status, ledger: (
        f"it was paused {status.detail}: it trains on if its setting is among the best there"
    ),
    "damaged": lambda status, ledger: status.detail,
}


def last_log_line(status: RunStatus, ledger: Ledger) -> str:
    """The last line of the run's traceback, or of its standard error."""
    folder = Path(status.folder)
    attempt = last_attempt(folder)
    if attempt is not None:
        outcome = attempt.read_outcome()
        tail = [line for line in (outcome.traceback_tail if outcome else ()) if line.strip()]
        if tail:
            return str(tail[-1]).strip()
    paths = [attempt.logs[1]] if attempt else []
    if status.cluster == "slurm" and status.job_id:
        paths.append(ledger.paths.job_logs(status.job_id)[1])
    return next(filter(None, (attempts.last_log_line(attempts.tail(path)) for path in paths)), "")


def shared_by_failed(runs: Sequence[Run], statuses: Sequence[RunStatus]) -> str | None:
    """What the failed runs have in common and the others do not, in a line."""
    failed = [run for run, status in zip(runs, statuses, strict=True) if status.state in BAD]
    others = [run for run, status in zip(runs, statuses, strict=True) if status.state in ("done", "running")]
    if len(failed) < 2 or not others:
        return None
    flats = [_settings(run) for run in failed]
    rest = [_settings(run) for run in others]
    common = [
        f"{key}={value}" for key, value in flats[0].items()
        if all(flat.get(key) == value for flat in flats) and not any(flat.get(key) == value for flat in rest)
    ]  # fmt: skip
    if not common:
        return f"the {len(failed)} failed runs share no setting that the others do not have"
    return f"the {len(failed)} failed runs share, and no other has: {'  '.join(common)}"


def _settings(run: Run) -> Mapping[str, str]:
    flat = {key: value_text(value) for key, value in flatten(run.config).items() if key != "output_dir"}
    resources = run.resources
    return {
        **flat,
        "partition": str(resources.partition),
        "mem_gb": str(resources.mem_gb),
        "time": str(resources.time),
    }
