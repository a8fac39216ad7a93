"""The standings of a race, by the files of its runs, and what follows for each run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from hyperformer.errors import FileError
from hyperformer.run_files.pause import read_pause, write_pause
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.run_files.validations import metrics_kept_at, read_validations
from launchers.plan.model_selection.choose import Choice, ScoredSetting, Validation, choose
from launchers.plan.plan import Run
from launchers.plan.race.promote import TO_THE_END, Entrant, promote
from launchers.plan.race.rule import RaceRule
from launchers.status.run_status import BAD, RunStatus
from launchers.store.ledger import Ledger

_WAITING = frozenset({"waiting", "pending", "unknown"})
_OUT = BAD | {"cancelled"}


@dataclass(frozen=True)
class Standings:
    """The standings of a race.

    Attributes:
        goals: signature -> the step that each run may train to.
        moving: signatures of runs that are paused, and move on now.
        notes: on settings that can no longer win, a line each.
    """

    goals: Mapping[str, float]
    moving: frozenset[str]
    notes: tuple[str, ...]

    def with_moves(self, statuses: Sequence[RunStatus]) -> list[RunStatus]:
        """The statuses, with those that move on as stopped: they are to start."""
        return [
            replace(entry, state="stopped", detail="it moves on in its race")
            if entry.signature in self.moving
            else entry
            for entry in statuses
        ]

    def write(self, ledger: Ledger, runs: Sequence[Run]) -> None:
        """Tell the runs when to pause; each reads it at its next start."""
        for run in runs:
            folder, goal = RunFolder(ledger.folder(run)), self.goals[run.signature]
            step = None if goal == TO_THE_END else int(goal)
            if not folder.race.exists() or read_pause(folder) != step:
                folder.make()
                ledger.folders[run.signature] = folder.path
                write_pause(folder, step)


def read_standings(
    ledger: Ledger, statuses: Sequence[RunStatus], starting: Collection[str] = ()
) -> Standings | None:
    """Read the standings of a sweep's race; None: there is none.

    Args:
        statuses: of all runs of the plan, in order.
        starting: signatures of runs that are about to start, whatever their status is.
    """
    race = ledger.plan.race
    if race is None:
        return None
    entries = [
        _read(ledger, race, run, status, status.signature in starting)
        for run, status in zip(ledger.plan.runs, statuses, strict=True)
    ]
    by_signature = {entry.run.signature: entry for entry in entries}
    at_rungs = [choose(race.choice, [entry.at(rung) for entry in entries]) for rung in race.rungs]
    goals: dict[str, float] = {}
    notes: list[str] = []
    for of_field in zip(*at_rungs, strict=True):  # the same field at each rung
        settings = [
            _Setting(at[0].runs, dict(zip(race.rungs, at, strict=True)), by_signature)
            for at in zip(*(choice.options for choice in of_field), strict=True)
        ]
        field = [setting.entrant(is_alone=len(settings) == 1) for setting in settings]
        moves = promote(field, race.rungs, race.keep)
        for index, (setting, entrant) in enumerate(zip(settings, field, strict=True)):
            goals |= dict.fromkeys((run.signature for run in setting.runs), moves.get(index, entrant.goal))
            if entrant.out:
                notes.append(_note(of_field[0], index, entrant.out))
    moving = (
        entry.run.signature
        for entry in entries
        if entry.status.state == "paused" and goals[entry.run.signature] > (entry.told or 0)
    )
    return Standings(goals, frozenset(moving), tuple(notes))


@dataclass(frozen=True)
class _RacedRun:
    """A run in a race.

    Attributes:
        told: where its race.json has it pause; None: nowhere, or there is none.
        goal: the step that it may train to by now.
        kept: rung -> validation of the checkpoint that it would keep if it ended there; None: not reached.
    """

    run: Run
    status: RunStatus
    told: int | None
    goal: float
    kept: Mapping[int, Mapping[str, Mapping[str, float]] | None]
    is_starting: bool

    def at(self, rung: int) -> Validation:
        return Validation(self.run, self.kept[rung], self.status.state)


@dataclass(frozen=True)
class _Setting:
    """One setting of a field: its runs, and its standing at each rung."""

    runs: Sequence[Run]
    scored: Mapping[int, ScoredSetting]
    by_signature: Mapping[str, _RacedRun]

    def entrant(self, is_alone: bool) -> Entrant:
        members = [self.by_signature[run.signature] for run in self.runs]
        scores, out = {}, next(filter(None, map(_why_out, members)), "")
        for rung, scored in self.scored.items():
            if any(member.kept[rung] is None for member in members):
                continue
            if scored.gaps or scored.mean is None:
                out = out or f"at step {rung} {scored.gaps[0].text if scored.gaps else 'it has no number'}"
            else:
                scores[rung] = scored.mean
        goal = TO_THE_END if is_alone else max(member.goal for member in members)
        waits = any(member.is_starting or member.status.state in _WAITING for member in members)
        return Entrant(scores, goal, waits, out)


def _why_out(entry: _RacedRun) -> str:
    state = entry.status.state
    if state == "paused" and entry.told and entry.kept.get(entry.told, {}) is None:
        return f"{entry.run.name}: its metrics.jsonl has no validation of step {entry.told}"
    return f"{entry.run.name}: {state}" if state in _OUT and not entry.is_starting else ""


def _note(choice: Choice, index: int, why: str) -> str:
    return f"race: {choice.label} {choice.options[index].label} cannot move on ({why})"


def _read(ledger: Ledger, race: RaceRule, run: Run, status: RunStatus, is_starting: bool) -> _RacedRun:
    folder = RunFolder(ledger.folder(run))
    lines = read_validations(folder.metrics) if ledger.has_folder(run) else {}
    kept = {rung: metrics_kept_at(lines, rung) for rung in race.rungs}
    try:
        told, is_told = read_pause(folder), folder.race.exists()
    except FileError:  # its status says so; the next start writes it again
        told, is_told = None, False
    if told is None and (is_told or status.is_active or status.state == "done"):
        goal = TO_THE_END
    else:  # the rungs may have changed since
        goal = next((float(rung) for rung in race.rungs if rung >= (told or 0)), TO_THE_END)
    return _RacedRun(run, status, told, goal, kept, is_starting)


def forget_race(ledger: Ledger, runs: Sequence[Run]) -> None:
    """The sweep file has no race any more: these runs train to their end."""
    for run in filter(ledger.has_folder, runs):
        RunFolder(ledger.folder(run)).race.unlink(missing_ok=True)
