"""What can be known to go wrong before anything is started; all findings at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hyperformer.errors import HyperformerError
from launchers.plan.runs import Run


class PreflightError(HyperformerError):
    """The sweep cannot work as it is."""


def check(runs: Iterable[Run], runs_dir: Path, more: Iterable[str] = ()) -> None:
    """Look for what would make runs fail.

    Args:
        more: what others found.

    Raises:
        PreflightError: with every finding.
    """
    runs = list(runs)
    findings = list(
        dict.fromkeys([*_folder(runs_dir), *(text for run in runs for text in _data(run)), *more])
    )
    if findings:
        raise PreflightError("nothing was started:\n" + "\n".join(f"- {text}" for text in findings))


def _folder(runs_dir: Path) -> Iterator[str]:
    there = runs_dir.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        yield f"--runs-dir {runs_dir}: {there} is not a folder"
    elif not os.access(there, os.W_OK):
        yield f"--runs-dir {runs_dir}: {there} cannot be written to"


def _data(run: Run) -> Iterator[str]:
    data, model = run.config.data, run.config.model
    if data.data_source == "folder" and data.data_dir is not None:
        folder = Path(data.data_dir)
        if not folder.is_dir():
            yield f"data_dir {folder}: there is no such folder"
        else:
            for task in data.tasks:
                if not (folder / task).is_dir():
                    yield f"data_dir {folder}: it has no folder {task} for the task of that name"
    for key, value in (
        ("model_name_or_path", model.model_name_or_path),
        ("tokenizer_name", model.tokenizer_name),
        ("task_file", data.task_file),
        ("deepspeed_config", run.config.training.deepspeed_config),
    ):
        # Names on the hub hold one slash at most and start with none; these can only be paths.
        is_path = value is not None and (key in ("task_file", "deepspeed_config") or value[0] in "/.~")
        if value is not None and is_path and not Path(value).expanduser().exists():
            yield f"{key} {value}: there is no such file or folder"
