"""The report of a sweep: made from a view of its runs, written, and drawn again when runs have ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hyperformer.errors import HyperformerError
from launchers.report import files, page_redraw
from launchers.report.figures.render import INSTALL
from launchers.report.make_report import make_report
from launchers.report.report_data import ReportData
from launchers.report.results import collect
from launchers.store.ledger import Ledger
from launchers.sweep_view import View

_LOCK_WAIT_S = 30.0
"""How long `report` waits for a job that draws the page."""


def report_data(ledger: Ledger, view: View) -> ReportData:
    """What the report says, as plain data; nothing is written."""
    plan = ledger.plan
    return make_report(plan.name, collect(ledger, view.statuses), plan.select, plan.columns)


def write_report(ledger: Ledger, view: View, with_pdf: bool) -> tuple[Path, ReportData]:
    """Write the files of the report; arguments, result and errors as of :meth:`launchers.api.Sweep.report`."""
    if not view.has_begun:
        raise HyperformerError(f"{ledger.plan.name}: nothing was started yet, so there is no report")
    data, paths = report_data(ledger, view), ledger.paths
    with page_redraw.lock(paths, _LOCK_WAIT_S):
        path = files.write_report(paths.report, data, with_pdf)
        page_redraw.record_drawn(paths, view.page_request)
    return path, data


def renew_page(ledger: Ledger, read: Callable[[], View], by: str) -> bool:
    """Draw the page of the report again if it is due; result and errors as of :meth:`launchers.api.Sweep.renew_page`.

    Args:
        read: reads the state of all runs.
    """
    paths = ledger.paths

    def draw() -> str:
        view = read()
        if files.would_lose_figures(paths.report):
            raise HyperformerError(f"{paths.report} has figures, which stay as they are: {INSTALL}")
        data = report_data(ledger, view)
        files.write_page(paths.report, replace(data, notes=(*data.notes, *view.notes)), by)
        return view.page_request

    return page_redraw.redraw(paths, draw)
