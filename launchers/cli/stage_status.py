"""`status` of a sweep file with stages: the state of all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from launchers.api import View
from launchers.cli import inspect_commands as inspect
from launchers.cli.display import tables
from launchers.cli.display.layout import console
from launchers.cli.display.progress import Progress
from launchers.cli.output import DONE, SOME_FAILED, Target, exit_code, print_next, print_notes, print_page
from launchers.cli.suggested_command import WATCH, SuggestedCommand, after_status, urgency
from launchers.plan.sweep_keys.stages import REPORT
from launchers.stages.gate_status import gate_text, gate_texts, starts_by_itself
from launchers.stages.study import Study
from launchers.stages.study_report import study_page_path
from launchers.status.polling import SLURM_S, Watch

Steps = list[tuple[Target, SuggestedCommand]]


@dataclass(frozen=True)
class StudyTarget:
    """A study, and how the user named it."""

    study: Study
    target: Target

    def of(self, stage: str) -> Target:
        """A stage, as a command would name it."""
        return replace(self.target, sweep=self.study.target_of(stage))


def status(one: StudyTarget, watched: bool, as_json: bool) -> int:
    """Show the state of the runs of all stages, and what each stage waits for."""
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
        print(heading(study, stage))
        tables.print_statuses(out, str(sweep.ledger.path), view.statuses)
        print_page(sweep.ledger.paths.report)
        print_notes(view.notes)
    print_page(study_page_path(study).parent, "all stages")
    print_gate(study, REPORT)
    print_next_of_all(one, [(one.of(stage), after_status(view.statuses)) for stage, _, view in views])
    return code


def heading(study: Study, stage: str) -> str:
    text = gate_text(study, stage)
    return f"\nstage {stage or study.stages.name}{f' {text}' if text else ''}"


def print_gate(study: Study, stage: str) -> None:
    text = gate_text(study, stage)
    if text:
        print(f"\n{stage or study.stages.name} {text}")


def _worst(study: Study, views: Sequence[View]) -> int:
    blocked = any((gate := study.gate(stage)) and gate.state == "blocked" for stage in (*study.names, REPORT))
    return max(SOME_FAILED if blocked else DONE, *(exit_code(view.statuses) for view in views))


def print_next_of_all(one: StudyTarget, steps: Steps) -> None:
    """The next useful command of a file with stages: the most urgent one of its stages."""
    found = [
        *steps,
        *([(one.target, WATCH)] if any(map(starts_by_itself, gate_texts(one.study).values())) else []),
    ]
    target, step = min(found, key=lambda pair: urgency(pair[1]))
    print_next(target if step.command == "logs" else one.target, step)  # which are of one stage


def _watch(study: Study) -> None:
    """Show the runs of all stages until none is going or to come; Ctrl-C ends the showing, not the runs."""
    watch = Watch(SLURM_S)
    with Progress(console(), study.stages.name) as progress, suppress(KeyboardInterrupt):
        while True:
            views = [study.open(stage).view() for stage in study.names]
            texts = gate_texts(study)
            lines = [f"stage {stage} {text}" for stage, text in texts.items() if text]
            statuses = [entry for view in views for entry in view.statuses]
            progress.update(statuses, "; ".join([*lines, *(note for view in views for note in view.notes)]))
            is_active = any(map(starts_by_itself, texts.values())) or any(view.is_active for view in views)
            if not watch.goes_on(is_active, statuses):
                return
            time.sleep(watch.pause_s)
