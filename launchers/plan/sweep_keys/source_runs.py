"""Which run of an earlier stage a run starts from. Pure: of plans and results."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.errors import HyperformerError, nearest
from hyperformer.settings.build import flatten, with_local_names
from hyperformer.settings.methods import METHODS
from hyperformer.settings.values import coerce, settings
from launchers.plan.grid.combinations import ADAPTER_SETTINGS, Candidate, Values
from launchers.plan.model_selection.choose import Validation, choose
from launchers.plan.plan import Plan, Run
from launchers.plan.run_names import value_text
from launchers.plan.select_runs import select_runs
from launchers.plan.sweep_keys.same_t5 import other_t5
from launchers.plan.sweep_keys.stages import NOT_KNOWN_YET, StageSource, is_not_known_yet, read_source

_NAMES = ("adapters", "task_embeddings")


@dataclass(frozen=True)
class SourceRun:
    """A run that another one starts from, and its folder."""

    run: Run
    folder: Path


FindSource = Callable[[StageSource, Values], SourceRun | None]
"""A stage's source, and the values of a run that starts from it -> the run; None: it is not known yet."""


def with_source(candidate: Candidate, earlier: Sequence[str], find: FindSource) -> Values:
    """A candidate's values with the folder that it starts from; what an adapter is, is the source's.

    Raises:
        ConfigError: no run, or several, are meant; or the file says another method than the source's.
    """
    values = candidate.values
    node = candidate.locations.get("init_from")
    if isinstance(values.get("init_from"), str):
        _check_folder(candidate, values["init_from"])
    if node is None or not isinstance(values.get("init_from"), dict):
        return values
    source = read_source(node, earlier)
    found = find(source, values)
    if found is None:
        return values | {"init_from": f"{NOT_KNOWN_YET}{source.stage}"}
    theirs = flatten(found.run.config)
    used = [key for key in sorted(ADAPTER_SETTINGS) if key not in _NAMES and settings()[key].is_used(theirs)]
    taken: dict[str, Any] = {key: theirs[key] for key in used}
    for key, value in taken.items():
        place = candidate.locations.get(key)
        if place is not None and values[key] != value:
            place.fail(
                f"{key} is {value_text(values[key])}, and {found.run.name} of stage {source.stage}, which the run "
                f"starts from, has {value_text(value)}; leave it out here: it is taken over"
            )
    return values | taken | {"init_from": str(found.folder)}


def _check_folder(candidate: Candidate, text: str) -> None:
    """See that `init_from` names no stage as if it were a folder."""
    is_stage = re.match(r"/*stage:", text) and not os.path.exists(text)
    if is_stage or is_not_known_yet(coerce("init_from", text, str(candidate.variant.config_file))):
        place = candidate.locations.get("init_from", candidate.variant.location)
        stage = text.rpartition(":")[2].strip() or "NAME"
        place.fail(f"{text!r} names no folder of a run; for the runs of a stage write {{stage: {stage}}}")


def find_run(
    source: StageSource, plan: Plan, validations: Sequence[Validation], values: Mapping[str, Any]
) -> Run | None:
    """The run of a stage that a run with these flat values starts from; None: it has no result yet.

    Args:
        plan: of the stage, and the results of its runs.

    Raises:
        ConfigError: no run, or several, are meant.
    """
    is_final = True
    if source.run is not None:
        runs: Sequence[Run] = _named(source, plan)
    elif source.is_chosen:
        runs, is_final = _chosen(source, plan, validations, values)
    else:
        runs = _only_setting(source, plan, values)
    # What cannot be meant is said before anything is trained, whichever setting will be chosen.
    _check_method(source, runs[0], values)
    _check_t5(source, runs[0], values)
    _check_tasks(source, runs, values)
    run = _of_seed(source, _of_task(source, runs, values), values)
    done = {one.run.signature for one in validations if one.metrics is not None}
    return run if is_final and run.signature in done else None


def _check_method(source: StageSource, run: Run, values: Mapping[str, Any]) -> None:
    theirs, ours = run.config.adapter.adapter, values.get("adapter", "none")
    if theirs != ours:
        source.location.fail(
            f"{run.name} of stage {source.stage} is trained with adapter={theirs}, and {values['variant']} has "
            f"adapter={ours}: start it from a run of its own method"
        )


def _check_t5(source: StageSource, run: Run, values: Mapping[str, Any]) -> None:
    """See that the T5 that was trained there is the one that is trained here."""
    theirs = run.config.model
    names = {"model_name_or_path": values.get("model_name_or_path", theirs.model_name_or_path)}
    ours = coerce("model_name_or_path", with_local_names(names)["model_name_or_path"], source.location.file)
    is_random = bool(values.get("random_init", False))
    other = "" if is_random else other_t5(theirs.model_name_or_path, ours)
    if is_random != theirs.random_init:
        other = f"random_init is {theirs.random_init} there, {is_random} here"
    if other:
        source.location.fail(f"{run.name} of stage {source.stage} is trained on another T5: {other}")


def _check_tasks(source: StageSource, runs: Sequence[Run], values: Mapping[str, Any]) -> None:
    """See that the tasks that `init_tasks` starts from are trained there."""
    if not METHODS[values.get("adapter", "none")].task_rows:
        return
    configs = [run.config for run in runs]
    known = {name for one in configs for name in one.data.tasks}
    known |= {
        name
        for one in configs
        for name in (*(one.adapter.adapters or ()), *(one.adapter.task_embeddings or ()))
    }
    starts = values.get("init_tasks") or {}
    for task in values["tasks"]:
        wanted = starts.get(task, task)
        named = any(values.get(key) for key in _NAMES)  # rows of other names than the tasks'
        if wanted is not None and wanted not in known and (task in starts or not named):
            source.location.fail(
                f"stage {source.stage} trains no task {wanted!r}{nearest(wanted, known)}; say by init_tasks which one "
                f"{task} starts from, such as {{{task}: {min(known)}}}, or null for new weights"
            )


def _named(source: StageSource, plan: Plan) -> list[Run]:
    try:
        return select_runs(plan, [source.run or ""])
    except HyperformerError as error:
        source.location.fail(f"stage {source.stage}: {error}")


def _chosen(
    source: StageSource, plan: Plan, validations: Sequence[Validation], values: Mapping[str, Any]
) -> tuple[Sequence[Run], bool]:
    """The runs of the chosen setting; before the choice is final those of one of the settings, and False."""
    if plan.select is None:
        source.location.fail(f"stage {source.stage} has no `select:`, so it chooses nothing; write one there")
    choices = [one for one in choose(plan.select, validations) if one.variant == values["variant"]]
    wanted = _wanted_task(values)
    of_task = [one for one in choices if one.task == wanted]
    choices = of_task if wanted and of_task else choices
    _check_one(source, values, [one.label for one in choices])
    (choice,) = choices
    if choice.chosen and choice.is_final:
        return choice.chosen.runs, True
    return choice.options[0].runs, False


def _only_setting(source: StageSource, plan: Plan, values: Mapping[str, Any]) -> list[Run]:
    rows: dict[Any, list[Run]] = {}
    for run in plan.runs:
        if run.config.variant == values["variant"]:
            rows.setdefault(run.row, []).append(run)
    labels = [" ".join(f"{key}={text}" for key, text in settings) or variant for variant, settings in rows]
    _check_one(source, values, labels)
    (runs,) = rows.values()
    return runs


def _check_one(source: StageSource, values: Mapping[str, Any], labels: Sequence[str]) -> None:
    if not labels:
        source.location.fail(f"stage {source.stage} trains no variant {values['variant']}")
    if len(labels) > 1:
        source.location.fail(
            f"stage {source.stage} has several settings of {values['variant']} ({', '.join(labels)}); choose one by "
            "`select: best`, or name a run by `run:`"
        )


def _wanted_task(values: Mapping[str, Any]) -> str | None:
    """The task of the source that a run of one task starts from."""
    tasks = values["tasks"]
    if not isinstance(tasks, list) or len(tasks) != 1:
        return None
    return (values.get("init_tasks") or {}).get(tasks[0], tasks[0])


def _of_task(source: StageSource, runs: Sequence[Run], values: Mapping[str, Any]) -> Sequence[Run]:
    """Of a variant that trains one task per run: those of the task that this run starts from."""
    if all(run.task is None for run in runs) or len({run.task for run in runs}) == 1:
        return runs
    wanted = _wanted_task(values)
    found = [run for run in runs if run.task == wanted]
    if not found:
        tasks = ", ".join(dict.fromkeys(str(run.task) for run in runs))
        source.location.fail(
            f"stage {source.stage} has a run for each task ({tasks}) and none for {wanted}; say which one by init_tasks"
        )
    return found


def _of_seed(source: StageSource, runs: Sequence[Run], values: Mapping[str, Any]) -> Run:
    by_seed = {run.config.seed: run for run in runs}
    wanted = source.seed if source.seed is not None else values.get("seed", 42)
    if len(by_seed) < len(runs):
        source.location.fail(f"several runs are meant: {', '.join(run.name for run in runs)}")
    if source.seed is None and len(by_seed) == 1:
        return runs[0]
    if wanted not in by_seed:
        seeds = ", ".join(map(str, by_seed))
        source.location.fail(
            f"stage {source.stage} has the seeds {seeds}, and not {wanted}; name one of them by `seed:`"
        )
    return by_seed[wanted]
