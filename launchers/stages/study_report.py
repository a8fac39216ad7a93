"""The page of all stages: ``runs/<name>.report/index.html``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hyperformer.files import atomic_write
from launchers.api import Sweep, View
from launchers.plan.plan import Run
from launchers.plan.sweep_keys.stages import REPORT, is_not_known_yet
from launchers.report.files import PAGE, draw
from launchers.report.page.study_page import StagePart, study_page
from launchers.stages.gate_status import gate_text
from launchers.stages.study import Study
from launchers.status.run_status import counts


def study_page_path(study: Study) -> Path:
    """Where the page is, beside the gate of the report."""
    return study.gate_file(REPORT).with_name(PAGE)


def write_study_page(study: Study, by: str) -> Path | None:
    """Write the page, atomically; returns its path. None: the file has no stages, or nothing was started yet.

    Args:
        by: who writes it, for the page to say.
    """
    path = study_page_path(study)
    parts = list(_parts(study, path.parent)) if any(study.names) else []
    if not any(part.data for part in parts):
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as stream:
        stream.write(study_page(study.stages.name, parts, path.parent, by))
    return path


def _parts(study: Study, folder: Path) -> Iterator[StagePart]:
    number = 0
    for stage in study.names:
        sweep = study.open(stage)
        part = _part(stage, sweep, sweep.view(), folder)
        yield replace(part, told=gate_text(study, stage), first_figure=number)
        number += len(part.figures or ())


def _part(stage: str, sweep: Sweep, view: View, folder: Path) -> StagePart:
    text = ", ".join(f"{number} {state}" for state, number in counts(view.statuses).items())
    summary = f"{len(view.runs)} runs: {text}."
    if not view.has_begun:
        return StagePart(stage, "", summary)
    data, page = sweep.report_data(view), sweep.ledger.paths.report / PAGE
    link = os.path.relpath(page, folder) if page.is_file() else ""
    data = replace(data, notes=(*data.notes, *view.notes))
    return StagePart(stage, "", summary, tuple(map(_source, _sourced(view))), data, draw(data), link=link)


def _sourced(view: View) -> Iterator[Run]:
    for run in view.runs:
        start = run.config.model.init_from
        if start is not None and not is_not_known_yet(start):
            yield run


def _source(run: Run) -> str:
    """'hyperformer++-seed1 from x.train: hyperformer++-rf8-seed1'; a run's folder is its name and its signature."""
    folder = Path(run.config.model.init_from or "")
    return f"{run.name} from {folder.parent.name}: {folder.name.rpartition('-')[0] or folder.name}"
