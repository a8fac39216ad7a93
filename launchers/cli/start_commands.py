"""The commands of ``sweep.py`` that act on runs: submit, retry, extend, cancel, clean."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from rich.filesize import decimal as file_size

from launchers.api import NotConfirmed, StartOptions, StartPlan, Sweep
from launchers.cli.output import (
    DONE,
    INTERRUPTED,
    Target,
    agreed,
    exit_code,
    print_next,
    print_notes,
    show_report,
)
from launchers.cli.start_callbacks import TerminalCallbacks
from launchers.cli.suggested_command import STATUS, WATCH, SuggestedCommand, after_report, after_status
from launchers.cli.suggested_command import SUBMIT as SUBMIT_STEP
from launchers.submit.start_rule import SUBMIT, StartRule


@dataclass(frozen=True)
class StartCommand:
    """What the user said of a start: how, whether it is a dry run, whether not to ask, and the same for real."""

    options: StartOptions
    is_dry_run: bool
    yes: bool
    for_real: SuggestedCommand


def submit(target: Target, command: StartCommand) -> int:
    """Start what is missing, failed or stopped; leave what is done or going."""
    return _start(target, target.open(), SUBMIT, command)


def retry(target: Target, rule: StartRule, command: StartCommand) -> int:
    """Start again runs that did not end well, and no others.

    Raises:
        NotConfirmed: the user does not agree.
    """
    sweep = target.open()
    choice, view = sweep.choose(rule)
    for entry in choice.unfixed:
        text = f"{entry.detail}; the same code and settings would end so again"
        print(f"left: {entry.name} ({entry.kind}): {text} (`submit` starts it all the same)")
    chosen = {run.signature for run in choice.start}
    for entry in view.statuses:
        if entry.signature in chosen:
            print(f"{'would retry' if command.is_dry_run else 'retry'} {entry.name} ({entry.display_state})")
    if not chosen:
        print("nothing to retry" if choice.unfixed else "nothing to retry: none of these runs ended badly")
        print_next(target, STATUS)
        return DONE
    if not (command.is_dry_run or agreed(f"retry {len(chosen)} runs?", command.yes)):
        raise NotConfirmed("nothing was started")
    return _start(target, sweep, rule, command)


def extend(
    target: Target, names: Sequence[str], is_dry_run: bool, yes: bool, for_real: SuggestedCommand
) -> int:
    """Have finished runs continue to the `max_steps` that the sweep file says now.

    Args:
        for_real: the same command, not as a dry run.
    """
    sweep = target.open()
    found = sweep.to_extend(*names)
    longer = [one for one in found if not one.why_not]
    for one in found:
        if one.why_not:
            print(f"left: {one.run.name}: {one.why_not}")
        else:
            steps = f"from step {one.steps} to {one.run.config.training.max_steps}"
            same = f"; it will end with the same result: {one.stopped_early}" if one.stopped_early else ""
            print(f"{'would extend' if is_dry_run else 'extend'} {one.run.name} {steps}{same}")
    if not longer:
        print("nothing to extend: raise `max_steps` of finished runs in the sweep file first")
        print_next(target, STATUS)
        return DONE
    if not is_dry_run and agreed(f"extend {len(longer)} runs?", yes):
        sweep.extend(*names)
    print_next(target, for_real if is_dry_run else SUBMIT_STEP)
    return DONE


def cancel(
    target: Target, names: Sequence[str], is_dry_run: bool, yes: bool, for_real: SuggestedCommand
) -> int:
    """Stop runs (they save first), and take waiting ones out of the queue.

    Args:
        for_real: the same command, not as a dry run.
    """
    sweep = target.open()
    chosen, view = sweep.to_cancel(*names)
    for run, entry in chosen:
        print(f"{'would cancel' if is_dry_run else 'cancel'} {run.name} ({entry.state})")
    ends_race = sweep.cancels_race(*names)
    if ends_race:
        print(f"{'would end' if is_dry_run else 'end'} the race: no run moves on by itself")
    print_notes(view.notes)
    if not chosen and not ends_race:
        print("nothing to cancel: none of these runs is going or waiting")
    elif not is_dry_run and agreed(f"cancel {len(chosen)} runs?", yes):
        sweep.cancel(*names)
    print_next(target, for_real if (chosen or ends_race) and is_dry_run else STATUS)
    return DONE


def clean(
    target: Target, names: Sequence[str], is_dry_run: bool, yes: bool, for_real: SuggestedCommand
) -> int:
    """Remove the checkpoints of runs that are done.

    Args:
        for_real: the same command, not as a dry run.
    """
    sweep = target.open()
    kept, view = sweep.to_clean(*names)
    print_notes(view.notes)
    for one in kept:
        text = f"checkpoints of {one.run.name}, {file_size(one.size)}"
        print(f"{'would remove' if is_dry_run else 'remove'} {text}")
    if not kept:
        print("nothing to remove: none of these runs is done and has checkpoints")
    else:
        total = file_size(sum(one.size for one in kept))
        print(
            f"{total} in all. Results, answers and trained weights stay; `extend` cannot continue these runs then"
        )
        if not is_dry_run and agreed(f"remove the checkpoints of {len(kept)} runs?", yes):
            sweep.clean(kept)
    print_next(target, for_real if kept and is_dry_run else STATUS)
    return DONE


def _start(target: Target, sweep: Sweep, rule: StartRule, command: StartCommand) -> int:
    if command.is_dry_run:
        found = sweep.dry_run(rule, command.options)
        show_dry_run(sweep, found)
        print_next(target, after_dry_run(found, command))
        return DONE
    is_local = sweep.plan.profile.is_local
    if is_local:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
    with TerminalCallbacks(sweep, command.yes) as callbacks:
        try:
            result = sweep.start(rule, command.options, callbacks)
        except KeyboardInterrupt:
            if not is_local:
                raise
            callbacks.close()
            print_resume(target.alone, rule, command)
            return INTERRUPTED
    if is_local:
        return _show_end(target, sweep)
    for array in result.arrays:
        print(f"SLURM job {array.job_id}: {array.runs} run{'s' if array.runs > 1 else ''}")
    print_next(target, WATCH)
    return DONE


def _show_end(target: Target, sweep: Sweep) -> int:
    """After the runs of this machine have ended: the table."""
    view = sweep.view()
    show_report(sweep, view)
    print_next(target, after_report(view.statuses, view.race_continues))
    return exit_code(view.statuses)


def show_dry_run(sweep: Sweep, start: StartPlan) -> None:
    if sweep.plan.profile.is_local:
        chosen = {run.signature for run in start.todo}
        for entry in start.statuses:
            verb = "would start on this machine" if entry.signature in chosen else "would leave"
            print(f"{verb}: {entry.name} ({entry.state})")
    arrays = start.slurm.arrays if start.slurm else []
    for number, array in enumerate(arrays, 1):
        options = " ".join(array.options())
        text = f", with {options}" if options else ""
        print(f"--- sbatch file {number} of {len(arrays)}{text}\n{array.text}", end="")
    if arrays:
        print("---")
    print_notes(start.notes)
    folder = sweep.ledger.path
    print(f"{len(start.todo)} of {len(start.statuses)} runs to start in {folder}; nothing was done")
    if start.estimate:
        print(start.estimate)


def after_dry_run(start: StartPlan, command: StartCommand) -> SuggestedCommand:
    """The next useful command."""
    return command.for_real if start.todo else after_status(start.statuses)


def print_resume(target: Target, rule: StartRule, command: StartCommand) -> None:
    """After Ctrl-C has stopped the runs of this machine."""
    print("\nstopped; to resume the runs from where they saved:")
    # They are stopped now, and `retry --failed` leaves those.
    print_next(target, command.for_real if rule == SUBMIT else SUBMIT_STEP)


def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
