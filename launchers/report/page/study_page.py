"""The page of a sweep file with stages: all that have results, in order, in one file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from launchers.report.figures.charts import Figure
from launchers.report.page.content import failures, provenance, run_lines
from launchers.report.page.make_page import render
from launchers.report.report_data import ReportData
from launchers.report.text import choice_text


@dataclass(frozen=True)
class StagePart:
    """What the page shows of a stage.

    Attributes:
        told: why it has not started; '' if it has.
        summary: the states of its runs, in words.
        sources: which runs its runs start from, a line each.
        data: None before any of its runs has started.
        figures: None: they cannot be drawn here.
        first_figure: their number on the page.
        link: to the stage's own page; '' where there is none.
    """

    name: str
    told: str
    summary: str
    sources: tuple[str, ...] = ()
    data: ReportData | None = None
    figures: Sequence[Figure] | None = ()
    first_figure: int = 0
    link: str = ""

    @cached_property
    def choices(self) -> list[str]:
        return list(map(choice_text, self.data.choices)) if self.data else []


def study_page(name: str, stages: Sequence[StagePart], folder: Path, by: str) -> str:
    """The page as HTML.

    Args:
        folder: where it will be: links are relative to it.
        by: who writes it.
    """
    begun = [(stage, stage.data) for stage in stages if stage.data]
    runs = [entry for _, data in begun for entry in data.runs]
    lines = [
        {**line, "run": f"{stage.name}: {line['run']}"}
        for stage, data in begun
        for line in run_lines(data.runs, folder)
    ]
    can_draw = all(stage.figures is not None for stage in stages)
    figures = [figure for stage in stages for figure in stage.figures or ()] if can_draw else None
    return render(
        "study.html.j2",
        by,
        figures,
        lines,
        name=name,
        stages=stages,
        failures=failures(runs),
        provenance=provenance(runs),
        drawn=[],
    )
