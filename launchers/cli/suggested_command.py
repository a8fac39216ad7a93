"""The next useful command after each command, from the states of the runs: a table of rules."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from launchers.status.run_status import BAD, RunStatus
from launchers.submit.start_rule import StartChoice


@dataclass(frozen=True)
class SuggestedCommand:
    """A command of ``sweep.py``, and its words after the sweep."""

    command: str
    words: tuple[str, ...] = ()


WATCH = SuggestedCommand("status", ("-w",))
WHY = SuggestedCommand("why")
SUBMIT = SuggestedCommand("submit")
REPORT = SuggestedCommand("report")
STATUS = SuggestedCommand("status")
RETRY_FAILED = SuggestedCommand("retry", ("--failed",))
# After the log of a failure, and what the user has just tried.
_URGENCY = (RETRY_FAILED, WHY, WATCH, SUBMIT, REPORT, STATUS)
# Nothing more is to be done about a run in such a state.
_OVER = frozenset({"done", "cancelled", "paused"})


def same_command(words: argparse.Namespace) -> SuggestedCommand:
    """What the user has just said, but not as a dry run. The sweep, --cluster and --runs-dir are not in it."""
    given = vars(words)
    flags = [
        f"--{name}" for name in ("failed", "oom", "no-preflight", "yes") if given.get(name.replace("-", "_"))
    ]
    most, ignored = given.get("max_parallel"), given.get("ignore")
    options = [
        *(["--max-parallel", str(most)] if most else []),
        *(["--ignore", ",".join(ignored)] if ignored else []),
    ]
    return SuggestedCommand(words.command, (*given.get("names", ()), *flags, *options))


def after_status(statuses: Sequence[RunStatus], race_continues: bool = False) -> SuggestedCommand:
    """After `plan`, `status` and `report`: the first that applies.

    Failures first; then what waits, and why; then what runs; then what nobody has started; then the results.

    Args:
        race_continues: whether a race is to start more of these runs by itself.
    """
    states = {status.state for status in statuses}
    failed = [status.name for status in statuses if status.state in BAD]
    rules = (
        (bool(failed), SuggestedCommand("logs", tuple(failed[:1]))),
        ("pending" in states, WHY),
        (race_continues or any(status.is_active for status in statuses), WATCH),
        ("unknown" in states, WHY),
        (not states <= _OVER, SUBMIT),
        ("done" in states, REPORT),
        (True, SUBMIT),
    )
    return next(step for applies, step in rules if applies)


def after_report(statuses: Sequence[RunStatus], race_continues: bool = False) -> SuggestedCommand:
    """As :func:`after_status`; but the results have just been shown."""
    step = after_status(statuses, race_continues)
    return STATUS if step == REPORT else step


def urgency(step: SuggestedCommand) -> int:
    """Of the next commands of several stages that with the smallest number is the next one of all."""
    return _URGENCY.index(step) if step in _URGENCY else -1


def after_why(statuses: Sequence[RunStatus], retry: StartChoice) -> SuggestedCommand:
    """After `why`.

    Args:
        retry: what `retry --failed` would do with all runs.
    """
    if retry.start:
        return RETRY_FAILED
    if any(status.state == "pending" for status in statuses):
        return WATCH
    return after_status(statuses)
