"""The commands of ``sweep.py`` for a sweep file with stages, or one that waits for others (`after:`)."""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from hyperformer.errors import HyperformerError
from launchers.api import NotConfirmed, StartPlan, Sweep, View
from launchers.cli import inspect_commands as inspect
from launchers.cli import start_commands as start
from launchers.cli import tables
from launchers.cli.layout import console
from launchers.cli.output import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    Target,
    agreed,
    ask,
    can_ask,
    exit_code,
    print_next,
    print_notes,
)
from launchers.cli.progress import Progress
from launchers.cli.start_commands import StartCommand, TerminalCallbacks, interrupt, show_dry_run
from launchers.cli.suggested_command import REPORT as REPORT_STEP
from launchers.cli.suggested_command import STATUS, WATCH, SuggestedCommand
from launchers.plan.sweep_file import SWEEPS, read_stages
from launchers.plan.sweep_files.stages import REPORT, split_target
from launchers.slurm import job_queue, states
from launchers.slurm.commands import ClusterError
from launchers.stages.study import NEW, Advance, Study
from launchers.status.polling import SLURM_S, PollInterval
from launchers.submit.start_rule import SUBMIT, StartRule, retry_rule

# What is done stage by stage, in order.
_EACH: dict[str, Callable[[Target, argparse.Namespace], int]] = {
    "plan": lambda target, words: inspect.plan(target),
    "why": lambda target, words: inspect.why(target, ()),
    "report": lambda target, words: inspect.report(target, words.plots, words.pdf),
    "prefetch": lambda target, words: inspect.prefetch(target),
}


@dataclass(frozen=True)
class StudyTarget:
    """A study, and how the user named it."""

    study: Study
    target: Target

    def of(self, stage: str) -> Target:
        """A stage, as a command would name it."""
        return replace(self.target, sweep=self.study.target_of(stage))


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
    codes = []
    for stage in one.study.names:
        print(f"{_heading(one.study, stage)}")
        codes.append(_EACH[words.command](one.of(stage), words))
    _print_gate(one.study, REPORT)
    return max(codes)


def submit(one: StudyTarget, command: StartCommand) -> int:
    """Start the first stage, and what is to follow it."""
    study = one.study
    study.check()
    looks = list(study.dry_runs(SUBMIT, command.options))
    if command.is_dry_run:
        for stage, (sweep, found) in zip(study.names, looks, strict=True):
            print(_heading(study, stage))
            show_dry_run(sweep, found)
        print_next(one.target, command.for_real)
        return DONE
    _confirm_all(looks, command)
    return _advance(one, SUBMIT, replace(command, yes=True))


def retry(one: StudyTarget, rule: StartRule, command: StartCommand) -> int:
    """Start again runs that did not end well, in the first stage that has any; the stages after it follow."""
    for stage in one.study.names:
        sweep = one.study.open(stage)
        choice, _ = sweep.choose(rule)
        if choice.start:
            print(_heading(one.study, stage))
            code = start.retry(one.of(stage), rule, command)
            return code if command.is_dry_run else _advance(one, NEW, replace(command, yes=True))
    print("nothing to retry: no run of any stage ended badly")
    return DONE if command.is_dry_run else _advance(one, NEW, command)


def follow(target: Target, command: StartCommand, code: int) -> int:
    """After runs of one stage were started by its name: what is to follow it. `code`: of the start."""
    file, stage = split_target(target.sweep)
    if not stage or command.is_dry_run:
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
    for stage in one.study.cancel_gates():
        print(f"stage {stage or one.study.stages.name} will not start by itself")
    for sweep, runs in found:
        if runs:
            sweep.cancel()
    print_next(one.target, STATUS)
    return DONE


def status(one: StudyTarget, watched: bool, as_json: bool) -> int:
    """Show how the runs of all stages stand, and what each stage waits for."""
    study = one.study
    if watched:
        _watch(study)
    views = [(stage, sweep := study.open(stage), sweep.view()) for stage in study.names]
    code = _worst(study, [view for _, _, view in views])
    if as_json:
        stages = [
            {"stage": stage, **inspect.status_record(sweep, view), "waits": gate_text(study, stage)}
            for stage, sweep, view in views
        ]
        print(
            json.dumps(
                {"sweep": study.stages.name, "stages": stages, "report": gate_text(study, REPORT)}, indent=2
            )
        )
        return code
    out = console()
    for stage, sweep, view in views:
        print(_heading(study, stage))
        tables.print_statuses(out, str(sweep.ledger.path), view.statuses)
        print_notes(view.notes)
    _print_gate(study, REPORT)
    print_next(one.target, _next(study, [view for _, _, view in views]))
    return code


def gate_text(study: Study, stage: str) -> str:
    """What stands before a stage, in words; '': nothing, or its turn has not come."""
    gate = study.gate(stage)
    if gate is None or gate.state == "started":
        return ""
    if gate.state in ("blocked", "cancelled"):
        return f"does not start: {gate.why}"
    if gate.job_id is None:
        return f"waits: {gate.why}; no job looks after it: `submit` again when they have ended"
    key = job_queue.job_key(gate.job_id, gate.slurm_cluster)
    try:
        job = job_queue.query([key]).get(key)
    except ClusterError as error:
        return f"waits: {gate.why} (job {gate.job_id}; {error})"
    if job is not None and job.state not in states.ENDED:
        return f"waits: {gate.why} (job {gate.job_id} starts it)"
    if study.gate(stage) != gate:  # it has acted meanwhile
        return gate_text(study, stage)
    log = study.gate_file(stage).with_name("gate.log")
    return f"does not start: job {gate.job_id}, which was to start it, is gone ({log}): `submit` again"


def _heading(study: Study, stage: str) -> str:
    told = gate_text(study, stage)
    return f"\nstage {stage or study.stages.name}{f' {told}' if told else ''}"


def _print_gate(study: Study, stage: str) -> None:
    told = gate_text(study, stage)
    if told:
        print(f"\n{stage or study.stages.name} {told}")


def _worst(study: Study, views: Sequence[View]) -> int:
    blocked = any((gate := study.gate(stage)) and gate.state == "blocked" for stage in (*study.names, REPORT))
    return max(SOME_FAILED if blocked else DONE, *(exit_code(view.statuses) for view in views))


def _next(study: Study, views: Sequence[View]) -> SuggestedCommand:
    waits = any((gate := study.gate(stage)) and gate.state == "waits" for stage in study.names)
    if waits or any(entry.is_active for view in views for entry in view.statuses):
        return WATCH
    return REPORT_STEP if all(view.has_begun for view in views) else STATUS


def _watch(study: Study) -> None:
    """Show the runs of all stages until none is going or to come; Ctrl-C ends the showing, not the runs."""
    pace = PollInterval(SLURM_S)
    with Progress(console(), study.stages.name) as progress, suppress(KeyboardInterrupt):
        while True:
            views = [study.open(stage).view() for stage in study.names]
            told = {stage: gate_text(study, stage) for stage in (*study.names, REPORT)}
            lines = [f"stage {stage} {text}" for stage, text in told.items() if text]
            statuses = [entry for view in views for entry in view.statuses]
            progress.update(statuses, "; ".join([*lines, *(note for view in views for note in view.notes)]))
            if not any(entry.is_active for entry in statuses) and not any(
                "starts it)" in text for text in told.values()
            ):
                return
            time.sleep(pace.pause_s)


def _confirm_all(looks: Sequence[tuple[Sweep, StartPlan]], command: StartCommand) -> None:
    """Show what all stages cost, and ask once.

    Raises:
        NotConfirmed: the user does not agree.
    """
    estimates = [(sweep, found.estimate) for sweep, found in looks if found.estimate]
    for sweep, found in estimates[1:]:
        print(f"{sweep.plan.name}, later: {found}")
    limit = looks[0][0].plan.profile.confirm_above
    hours = sum(found.gpu_hours for _, found in estimates)
    if limit is None or hours <= limit or command.yes:
        return
    question = f"{hours:,.4g} GPU-hours of all stages are above confirm_above ({limit:g})"
    if not can_ask():
        raise NotConfirmed(f"{question}; say -y to submit them")
    if not ask(f"{question}; submit?"):
        raise NotConfirmed("nothing was submitted")


def _advance(one: StudyTarget, rule: StartRule, command: StartCommand) -> int:
    study, talks = one.study, []

    def callbacks(sweep: Sweep) -> TerminalCallbacks:
        talks.append(TerminalCallbacks(sweep, command.yes))
        return talks[-1]

    is_local = study.open(study.names[0]).plan.profile.is_local
    if is_local:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
    try:
        found = study.advance(rule, command.options, callbacks)
    except KeyboardInterrupt:
        if not is_local:
            raise
        for each in talks:
            each.close()
        print("\nstopped; to resume the runs from where they saved:")
        print_next(one.target, command.for_real)
        return INTERRUPTED
    finally:
        for each in talks:
            each.close()
    return _show(one, found, is_local)


def _show(one: StudyTarget, found: Advance, is_local: bool) -> int:
    study = one.study
    for stage in study.names if is_local else ():
        if study.open(stage).view().has_begun:
            print(_heading(study, stage))
            inspect.report(one.of(stage))
    if found.stage is not None:
        _print_gate(study, found.stage)
    elif not is_local:
        print("all stages are done")
    if not is_local:
        print_next(one.target, WATCH if found.gate and found.gate.job_id else STATUS)
    return SOME_FAILED if found.verdict.kind == "blocked" else DONE
