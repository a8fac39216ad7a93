"""From the folder of a sweep to its sweep file, and to its page."""

from __future__ import annotations

from pathlib import Path

from hyperformer.errors import HyperformerError
from launchers.api import Sweep
from launchers.plan.sweep_file import read_stages
from launchers.report.figures.render import INSTALL, can_draw
from launchers.report.files import would_lose_figures
from launchers.stages.study import Study
from launchers.stages.study_report import study_page_path, write_study_page
from launchers.store.records import read_record
from launchers.store.sweep_folder import SweepFolder


def renew(paths: SweepFolder, by: str) -> None:
    """Draw the page of a sweep again, and that of the study whose stage it is.

    Args:
        by: who draws, for the page to say.

    Raises:
        HyperformerError: its sweep file cannot be read any more, or is another's; or what the drawing raises.
    """
    file, stage = find_file(paths)
    has_drawn = Sweep.load(f"{file}:{stage}" if stage else file, paths.path.parent).renew_page(by)
    if has_drawn and stage:
        study = Study(str(file), paths.path.parent)
        if not would_lose_figures(study_page_path(study).parent):
            write_study_page(study, by)
    if not can_draw():
        print(f"{paths.report}: the page has no figures: {INSTALL}", flush=True)


def find_file(paths: SweepFolder) -> tuple[Path, str]:
    """The sweep file whose runs a folder has, and its stage.

    Raises:
        HyperformerError: the file is of another sweep now, or it is not known.
    """
    record = read_record(paths.plan) or {}
    file, name = Path(str(record.get("source"))), paths.path.name
    stages = read_stages(file)
    for stage in stages.names:
        if name == (f"{stages.name}.{stage}" if stage else stages.name):
            return file, stage
    raise HyperformerError(f"{file} has no sweep {name} any more")
