"""The commands of ``sweep.py`` for a sweep file with stages, or one that waits for others (`after:`)."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

from hyperformer.errors import HyperformerError
from launchers.api import NotConfirmed, StartPlan, Sweep
from launchers.cli import inspect_commands as inspect
from launchers.cli import start_commands as start
from launchers.cli.output import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    Target,
    agreed,
    ask,
    can_ask,
    print_next,
    short_path,
)
from launchers.cli.stage_status import Steps, StudyTarget, heading, print_gate, print_next_of_all, status
from launchers.cli.start_callbacks import TerminalCallbacks
from launchers.cli.start_commands import (
    StartCommand,
    after_dry_run,
    interrupt,
    print_resume,
    show_dry_run,
)
from launchers.cli.suggested_command import STATUS
from launchers.plan.sweep_file import SWEEPS, read_stages
from launchers.plan.sweep_keys.stages import REPORT, split_target
from launchers.slurm.commands import ClusterError
from launchers.stages.advance import NEW, Advance, advance, cancel_gates
from launchers.stages.after import after_verdict, check_after
from launchers.stages.study import Study
from launchers.stages.study_report import write_study_page
from launchers.submit.start_rule import SUBMIT, StartRule, retry_rule

# What is done stage by stage, in order.
_EACH: dict[str, Callable[[Target, argparse.Namespace], int]] = {
    "plan": lambda target, words: inspect.plan(target),
    "data": lambda target, words: inspect.data(target, words.rows),
    "why": lambda target, words: inspect.why(target, ()),
    "report": lambda target, words: inspect.report(target, words.plots, words.pdf),
    "prefetch": lambda target, words: inspect.prefetch(target),
}


def study_of(target: Target) -> StudyTarget | None:
    """The study that a command means; None: it means one sweep, which waits for nothing."""
    file, stage = split_target(target.sweep)
    stages = read_stages(SWEEPS.find(file))
    if stage or (stages.names == ("",) and not stages.after):
        return None
    return StudyTarget(Study(target.sweep, target.runs_dir, target.cluster), target)


def run(one: StudyTarget, words: argparse.Namespace, command: Callable[[], StartCommand]) -> int:
    """Run one command on all stages; returns the exit code."""
    if getattr(words, "names", ()):
        first = one.study.target_of(one.study.names[0])
        raise HyperformerError(f"{one.target.sweep} has stages, and names are of runs of one: write {first}")
    match words.command:
        case "submit":
            return submit(one, command())
        case "retry":
            return retry(one, retry_rule((), words.failed, words.oom), command())
        case "cancel":
            return cancel(one, words.dry_run, words.yes)
        case "status":
            return status(one, words.watch, words.json)
    if words.command not in _EACH:
        stages = ", ".join(map(one.study.target_of, one.study.names))
        raise HyperformerError(f"{words.command} is of one stage: name it, such as {stages}")
    codes: list[int] = []
    steps: Steps = []
    for stage in one.study.names:
        print(f"{heading(one.study, stage)}")
        codes.append(_EACH[words.command](replace(one.of(stage), of_all=steps), words))
    if words.command == "report":
        _write_page(one.study)
    print_gate(one.study, REPORT)
    if steps:
        print_next_of_all(one, steps)
    return max(codes)


def submit(one: StudyTarget, command: StartCommand) -> int:
    """Start the first stage, and what is to follow it."""
    study = one.study
    check_after(study)
    starts = list(study.dry_runs(command.options))
    if command.is_dry_run:
        _print_first(study)
        steps: Steps = []
        for stage, (sweep, found) in zip(study.names, starts, strict=True):
            print(heading(study, stage))
            show_dry_run(sweep, found)
            steps.append((one.of(stage), after_dry_run(found, command)))
        print_next_of_all(one, steps)
        return DONE
    _confirm_all(starts, command)
    return _advance(one, SUBMIT, replace(command, yes=True))


def _write_page(study: Study) -> None:
    page = write_study_page(study, "report")
    if page:
        print(f"\nall stages: {short_path(page)}")


def _print_first(study: Study) -> None:
    """What the first stage waits for (`after:`), in a dry run."""
    try:
        verdict = after_verdict(study)
    except ClusterError as error:
        print(f"what it waits for was not asked: {error}")
        return
    if verdict.kind != "ready":
        how = "would wait" if verdict.kind == "waits" else "would not start"
        print(f"{study.stages.name} {how}: {verdict.why}")


def retry(one: StudyTarget, rule: StartRule, command: StartCommand) -> int:
    """Start again runs that did not end well, in the first stage that has any; the stages after it follow."""
    for stage in one.study.names:
        sweep = one.study.open(stage)
        choice, _ = sweep.choose(rule)
        if choice.start:
            print(heading(one.study, stage))
            steps: Steps = []
            code = start.retry(replace(one.of(stage), of_all=steps), rule, command)
            if command.is_dry_run:
                print_next_of_all(one, steps)
            if command.is_dry_run or code == INTERRUPTED:
                return code
            return _advance(one, NEW, replace(command, yes=True))
    print("nothing to retry: no run of any stage ended badly")
    if not command.is_dry_run:
        return _advance(one, NEW, command)
    print_next(one.target, STATUS)
    return DONE


def follow(target: Target, command: StartCommand, begin: Callable[[Target], int]) -> int:
    """Start runs of one sweep and, if it is a stage that was named, what is to follow it.

    Args:
        begin: starts the runs; returns the exit code.
    """
    file, stage = split_target(target.sweep)
    if not stage or command.is_dry_run:
        return begin(target)
    code = begin(replace(target, of_all=[]))
    if code == INTERRUPTED:
        return code
    whole = StudyTarget(Study(file, target.runs_dir, target.cluster), replace(target, sweep=file))
    return max(code, _advance(whole, NEW, replace(command, yes=True)))


def cancel(one: StudyTarget, is_dry_run: bool, yes: bool) -> int:
    """Stop the runs of all stages, and what would start the next ones."""
    found = [(sweep, sweep.to_cancel()[0]) for sweep in map(one.study.open, one.study.names)]
    for sweep, runs in found:
        for run_, entry in runs:
            print(
                f"{'would cancel' if is_dry_run else 'cancel'} {sweep.plan.name} {run_.name} ({entry.state})"
            )
    number = sum(len(runs) for _, runs in found)
    if is_dry_run or not agreed(f"cancel {number} runs, and the stages that wait?", yes):
        return DONE
    for stage in cancel_gates(one.study):
        print(f"stage {stage or one.study.stages.name} will not start by itself")
    for sweep, runs in found:
        if runs:
            sweep.cancel()
    print_next(one.target, STATUS)
    return DONE


def _confirm_all(starts: Sequence[tuple[Sweep, StartPlan]], command: StartCommand) -> None:
    """Show what all stages cost, and ask once.

    Raises:
        NotConfirmed: the user does not agree.
    """
    estimates = [(sweep, found.estimate) for sweep, found in starts if found.estimate]
    for sweep, found in estimates[1:]:
        print(f"{sweep.plan.name}, later: {found}")
    limit = starts[0][0].plan.profile.confirm_above
    hours = sum(found.gpu_hours for _, found in estimates)
    if limit is None or hours <= limit or command.yes:
        return
    question = f"{hours:,.4g} GPU-hours of all stages are above confirm_above ({limit:g})"
    if not can_ask():
        raise NotConfirmed(f"{question}; say -y to submit them")
    if not ask(f"{question}; submit?"):
        raise NotConfirmed("nothing was submitted")


def _advance(one: StudyTarget, rule: StartRule, command: StartCommand) -> int:
    study, shown = one.study, []

    def callbacks(sweep: Sweep) -> TerminalCallbacks:
        shown.append(TerminalCallbacks(sweep, command.yes))
        return shown[-1]

    is_local = study.open(study.names[0]).plan.profile.is_local
    if is_local:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
    try:
        found = advance(study, rule, command.options, callbacks)
    except KeyboardInterrupt:
        if not is_local:
            raise
        for each in shown:
            each.close()
        print_resume(one.target, rule, command)
        return INTERRUPTED
    finally:
        for each in shown:
            each.close()
    return _show(one, found, is_local)


def _show(one: StudyTarget, found: Advance, is_local: bool) -> int:
    study = one.study
    steps: Steps = []
    for stage in study.names if is_local else ():
        if study.open(stage).view().has_begun:
            print(heading(study, stage))
            inspect.report(replace(one.of(stage), of_all=steps))
    if is_local:
        _write_page(study)
    if found.stage is not None:
        print_gate(study, found.stage)
    elif not is_local:
        print("all stages are done")
    print_next_of_all(one, [*steps, (one.target, STATUS)])
    return SOME_FAILED if found.verdict.kind == "blocked" else DONE
