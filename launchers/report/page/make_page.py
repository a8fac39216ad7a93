"""report/index.html: the whole report as one file that opens offline. jinja2 comes with torch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from launchers.report.figures.charts import Figure
from launchers.report.figures.render import INSTALL, javascript
from launchers.report.page.content import drawn_rows, failures, provenance, run_lines
from launchers.report.report_data import ReportData
from launchers.report.text import (
    COMPARISON_TITLES,
    PARAMETER_TITLES,
    cell_text,
    choice_text,
    column_names,
    comparison_notes,
    comparison_texts,
    footnotes,
    interval_text,
    parameter_texts,
    seed_notes,
    seeds_text,
    table_title,
)
from launchers.status.run_status import counts

_SECTIONS = {
    "results": "Results",
    "figures": "Figures",
    "runs": "Runs",
    "failures": "Failures",
    "appendix": "Appendix",
    "provenance": "Provenance",
}


def page(data: ReportData, figures: Sequence[Figure] | None, folder: Path, by: str) -> str:
    """The page as HTML.

    Args:
        figures: None: they cannot be drawn here; the page says what to install.
        folder: where the page will be: links to logs are relative to it.
        by: who writes it.
    """
    shown = [item for item in _SECTIONS.items() if item[0] != "appendix" or data.appendix]
    return render(
        "page.html.j2",
        by,
        figures,
        run_lines(data.runs, folder),
        data=data,
        states=list(counts(entry.status for entry in data.runs).items()),
        sections=shown,
        choices=list(map(choice_text, data.choices)),
        failures=failures(data.runs),
        provenance=provenance(data.runs),
        drawn=drawn_rows(data.runs),
    )


def render(
    template: str, by: str, figures: Sequence[Figure] | None, lines: list[dict[str, Any]], **values: Any
) -> str:
    """A page as HTML.

    Args:
        by, figures: as :func:`page` has them; of several sweeps, those of all.
        lines: of the table of runs.
        values: what else the template names.
    """
    from jinja2 import DictLoader, Environment
    from markupsafe import Markup

    loader = DictLoader({name: _asset(name) for name in ("macros.html.j2", template)})
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(
        title=table_title,
        column_names=column_names,
        cell_text=cell_text,
        seeds_text=seeds_text,
        interval_text=interval_text,
        parameter_texts=parameter_texts,
        parameter_titles=PARAMETER_TITLES,
        comparison_titles=COMPARISON_TITLES,
        comparison_texts=comparison_texts,
        comparison_notes=comparison_notes,
        footnotes=footnotes,
        seed_notes=seed_notes,
    )
    return environment.get_template(template).render(
        written=time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        written_at=time.time(),
        by=by,
        figures=figures or (),
        has_figures=bool(figures),
        figures_missing=f"No figures: {INSTALL}" if figures is None else "",
        run_json=Markup(_json(lines)),
        figure_json=Markup(_json([figure.spec for figure in figures or ()])),
        vega=Markup(javascript()) if figures else "",
        style=Markup(_asset("style.css")),
        script=Markup(_asset("page.js")),
        **values,
    )


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that cannot end the script element it is in; a number that is not finite is null."""
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value
