"""What can be known to go wrong before runs start: all findings at once, the same way for every back end.

Here is what does not depend on the back end: folders, disk, quotas, data, files that settings name. What
SLURM would refuse is in :mod:`launchers.submit.preflight_slurm`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.adapter_folder import AdapterFiles, trained_files, unfinished_run
from hyperformer.adapters.bases.families import TOY, t5_values
from hyperformer.adapters.init_from.compatibility import compatible_rows
from hyperformer.errors import ConfigError, HyperformerError, nearest
from hyperformer.files import expand_home, read_json, read_object
from hyperformer.hub_access import cached_snapshots
from hyperformer.settings.build import make_config
from hyperformer.settings.checks import check_schedule
from hyperformer.settings.extras import check_installed
from hyperformer.settings.precision import check_precision
from hyperformer.settings.schema import TrainingConfig
from launchers.plan.plan import Run
from launchers.plan.sweep_keys.same_t5 import other_sizes, other_t5
from launchers.plan.sweep_keys.stages import is_not_known_yet
from launchers.store.records import try_record
from launchers.store.sweep_folder import SweepFolder
from launchers.submit import preflight_disk
from launchers.submit.prefetch import own_files_of

ALL = "all"
# What a user who knows better can ignore, by name.
NAMES = (
    "data", "files", "disk", "offline", "container", "setup", "packages", "shared-folder", "partition", "account",
    "qos", "time", "nodes", "gpus", "cores", "memory", "constraint", "reservation", "batch", "sbatch",
)  # fmt: skip


class PreflightError(HyperformerError):
    """The sweep cannot work as it is."""


@dataclass(frozen=True)
class Finding:
    """One thing that would go wrong.

    Attributes:
        name: one of NAMES; None: it cannot be ignored.
        text: what, where, why, and what to do.
    """

    name: str | None
    text: str


def check_ignored(names: Iterable[str]) -> None:
    """See that these are names of findings. Raises HyperformerError."""
    for name in names:
        if name not in (*NAMES, ALL):
            raise HyperformerError(f"--ignore {name}: no finding has that name{nearest(name, [*NAMES, ALL])}")


def refuse_unless_ignored(findings: Iterable[Finding], ignored: Collection[str] = ()) -> list[str]:
    """Stop before anything is started, unless every finding is ignored.

    Args:
        ignored: names of findings, or ALL.

    Returns:
        A note on each finding that was ignored.

    Raises:
        PreflightError: with every finding.
    """
    found = list(dict.fromkeys(findings))
    passed = [one for one in found if one.name is not None and (one.name in ignored or ALL in ignored)]
    left = [one for one in found if one not in passed]
    if left:
        lines = [f"- {one.text}{f' [{one.name}]' if one.name else ''}" for one in left]
        names = dict.fromkeys(one.name for one in left if one.name)
        way_past = f"to start all the same: --ignore {','.join(names)} (all: --no-preflight)"
        raise PreflightError("\n".join(["nothing was started:", *lines, *([way_past] if names else [])]))
    return [f"ignored: {one.text}" for one in passed]


def check_runs_dir(runs_dir: Path) -> None:
    """See that a sweep's folder can be made below `runs_dir`, which is not a file. Raises PreflightError."""
    there = runs_dir.absolute()
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK):
        refuse_unless_ignored([Finding(None, f"--runs-dir {runs_dir}: {there} cannot be written to")])


def find_problems(runs: Sequence[Run], folder: Path) -> tuple[list[Finding], list[str]]:
    """The findings on runs that are to start, whatever starts them; and notes for the user.

    Args:
        folder: the sweep's; need not be there.
    """
    if not runs:
        return [], []
    room = preflight_disk.check_space(folder, len(runs))
    findings = [Finding("disk", text) for text in room.findings]
    known = (try_record(SweepFolder(folder).plan) or {}).get("runs", {})
    own_files = own_files_of(run.config.data.task_file for run in runs)
    for name in dict.fromkeys(run.config.model.model_name_or_path for run in runs):
        findings += base_findings(name)
    for run in runs:
        findings += _data(run, own_files[run.config.data.task_file])
        findings += _files(run)
        findings += _source(run)
        findings += _refused(run, check_precision)
        if run.signature not in known:  # what an earlier version planned ends as it began
            findings += _refused(run, check_schedule)
    return findings, room.notes


def missing_packages(runs: Iterable[Run]) -> list[Finding]:
    """What this Python, which starts the jobs too unless a profile says otherwise, lacks for the runs' methods."""
    findings = []
    for kind in dict.fromkeys(run.config.adapter.adapter for run in runs):
        try:
            check_installed(kind)
        except ConfigError as error:
            findings.append(Finding("packages", str(error)))
    return findings


def _refused(run: Run, check: Callable[[TrainingConfig], None]) -> Iterator[Finding]:
    """What a check of the settings that a run starts with has against it."""
    try:
        check(run.config.training)
    except ConfigError as error:
        yield Finding(None, str(error))


def _data(run: Run, own_files: Mapping[str, str]) -> Iterator[Finding]:
    data = run.config.data
    for task in data.tasks:
        if task in own_files and not Path(own_files[task]).is_file():
            yield Finding("data", f"task {task}: data {own_files[task]}: there is no such file")
    if data.data_source != "folder" or data.data_dir is None:
        return
    folder = Path(data.data_dir)
    if not folder.is_dir():
        yield Finding("data", f"data_dir {folder}: there is no such folder")
        return
    for task in data.tasks:
        if task not in own_files and not (folder / task).is_dir():
            yield Finding("data", f"data_dir {folder}: it has no folder {task} for the task of that name")


def base_findings(name: str) -> Iterator[Finding]:
    """What is wrong with a base model whose config is on this machine: in a folder, or in the hub's cache."""
    if name == TOY:
        return
    is_folder = Path(name).is_dir()
    configs = [folder / "config.json" for folder in ([Path(name)] if is_folder else cached_snapshots(name))]
    if is_folder and not configs[0].exists():
        yield Finding("files", f"model_name_or_path {name}: has no config.json, so it is no model")
    try:
        for config in filter(Path.exists, configs):
            t5_values(read_object(config), name)
    except HyperformerError as error:
        yield Finding(None, f"model_name_or_path: {error}")


def _source(run: Run) -> Iterator[Finding]:
    """What does not fit a trained run that this one starts from."""
    init_from = run.config.model.init_from
    if init_from is None or is_not_known_yet(init_from) or not Path(init_from).exists():
        return
    files = trained_files(Path(init_from))
    if files is None:
        yield Finding("files", f"init_from {init_from}: is not the folder of a run, or of an adapter")
        return
    run_folder = unfinished_run(files)
    if run_folder is not None:
        yield Finding(
            "files",
            f"init_from {init_from}: {run_folder} has no result.json, so that run is not done: "
            "wait for it, or resume it",
        )
    try:
        record = read_json(files.config)
        yield from _weights(run, files, record)
        adapter = make_config(
            {**record["adapter_settings"], "tasks": record["tasks"]}, str(files.config)
        ).adapter
        compatible_rows(adapter, record["tasks"], record["base_fingerprint"] is None, run.config)
    except ConfigError as error:
        yield Finding(None, str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield Finding("files", f"init_from {init_from}: {files.config} is damaged: {error!r}")


def _weights(run: Run, files: AdapterFiles, record: dict[str, Any]) -> Iterator[Finding]:
    """What the weights of a trained run, and the T5 that they were trained on, have against them."""
    from hyperformer.data.cache.file_hash import file_hash

    where, model = f"init_from {run.config.model.init_from}", run.config.model
    if not files.weights.is_file():
        yield Finding("files", f"{where}: {files.weights} is missing; copy the folder again")
    elif not str(record["weights_sha256"]).startswith(file_hash(files.weights)):
        yield Finding(
            "files",
            f"{where}: {files.weights} is damaged, or another run's: it is not the file that {files.config.name} was "
            "written for; copy both again",
        )
    name = record["base_model_name_or_path"]
    other = other_sizes(record["base_sizes"], model.model_name_or_path)
    if not other and not model.random_init:
        other = other_t5(name, model.model_name_or_path)
    if other:
        told = f"{where}: it was trained on another T5 ({other}); write model_name_or_path: {name}"
        yield Finding("files", told)


def _files(run: Run) -> Iterator[Finding]:
    data, model, training = run.config.data, run.config.model, run.config.training
    for key, value, is_path in (
        ("model_name_or_path", model.model_name_or_path, False),
        ("tokenizer_name", model.tokenizer_name, False),
        ("init_from", None if is_not_known_yet(model.init_from) else model.init_from, True),
        ("task_file", data.task_file, True),
        ("deepspeed_config", training.deepspeed_config, True),
    ):
        # Names on the hub hold one slash at most and start with none of these; such values can only be paths.
        if value and (is_path or value[0] in "/.~") and not expand_home(value).exists():
            yield Finding("files", f"{key} {value}: there is no such file or folder")
