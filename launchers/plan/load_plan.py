"""A sweep file -> the list of its runs. Pure: reads config files, writes nothing, asks nobody.

A run's settings come in layers, the later ones on top: the variant's config
file; `config`; `base`; `tasks`; `zip` and `grid`; `overrides`. Settings that a
variant does not use (a reduction factor without adapters) go back to their
defaults, so combinations that differ in nothing else are one run.
"""

from __future__ import annotations

import fnmatch
import os
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.build import flatten, make_config, settings, signature
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.yaml_source import Located
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.grid import Candidate, Values, candidates
from launchers.plan.resources import Resources
from launchers.plan.runs import Plan, Run, run_name, value_text
from launchers.plan.sweep_file import SWEEPS, SweepFile, read_sweep

_PATHS = tuple(key for key, entry in settings().items() if entry.path and entry.result)
_DEFAULTS = flatten(RunConfig())


def load_plan(name: str, profile: ClusterProfile) -> Plan:
    """The plan of the sweep file `name` (path, or name of a shipped one) on the profile's cluster.

    Raises:
        ConfigError: with file, line and key.
    """
    return make_plan(read_sweep(SWEEPS.find(name)), profile)


def make_plan(file: SweepFile, profile: ClusterProfile) -> Plan:
    """Expand a sweep file; this is where the resources of its runs are decided, and nowhere else.

    Raises:
        ConfigError: a setting has an impossible value (file, line and key), or no run is left.
    """
    kept: dict[str, tuple[Candidate, RunConfig]] = {}
    hits: Counter[int] = Counter()
    tasks_known: dict[str | None, Container[str]] = {}
    total = excluded = 0
    for variant in file.variants:
        for candidate in candidates(file, variant):
            total += 1
            rules = [index for index, rule in enumerate(file.exclude) if _matches(rule, candidate.values)]
            hits.update(rules)
            if rules:
                excluded += 1
                continue
            config = _config(candidate, file)
            _check_tasks(candidate, config, tasks_known)
            kept.setdefault(signature(config), (candidate, config))
    if not kept:
        raise ConfigError(f"{file.source}: no run is left: `exclude` drops all {total} of them")
    notes = [
        f"{next(iter(rule.values())).where}: matches no run"
        for index, rule in enumerate(file.exclude)
        if not hits[index]
    ]
    runs = tuple(_named(kept, file, profile.resources))
    notes += [
        f"{node.where}: no run has such a name"
        for pattern, node in file.resources.runs
        if not any(fnmatch.fnmatchcase(run.name, pattern) for run in runs)
    ]
    return Plan(
        name=file.name,
        source=file.source,
        text=file.text,
        profile=profile,
        runs=runs,
        max_parallel=file.max_parallel or profile.max_parallel,
        merged=total - excluded - len(kept),
        excluded=excluded,
        notes=tuple(notes),
    )


def _matches(rule: dict[str, Located], values: Values) -> bool:
    for key, node in rule.items():
        mine = _value(key, values)
        wanted = node.plain() if key == "task" else settings()[key].value_of(node)
        if mine != wanted and not (isinstance(wanted, list) and mine in wanted):
            return False
    return True


def _value(key: str, values: Values) -> Any:
    """What an exclude compares: a setting (its default if nobody set it), or the task of a run with one."""
    if key == "task":
        return values["tasks"][0] if len(values["tasks"]) == 1 else None
    return values.get(key, _DEFAULTS[key])


def _config(candidate: Candidate, file: SweepFile) -> RunConfig:
    unused = _unused(candidate.values)
    values = {key: value for key, value in candidate.values.items() if key not in unused}
    values.pop("output_dir", None)
    for key in _PATHS:
        value = values.get(key)
        # 'toy' is the model that ships with us, whatever lies in the working directory.
        if isinstance(value, str) and value and value != "toy":
            path = Path(os.path.expanduser(value))  # of pathlib it fails on an unknown user
            if not path.is_absolute() and path.exists():
                values[key] = str(path.absolute())
    where = str(file.source)
    try:
        return make_config(values, where=where)
    except ConfigError as error:
        # The message starts with the setting's name; say where the sweep sets it.
        message = str(error).removeprefix(f"{where}: ")
        place = candidate.places.get(message.split(" ", 1)[0])
        if place is not None:
            place.fail(f"{message} (variant {candidate.variant.name})")
        candidate.variant.place.fail(f"{message} (set in {candidate.variant.config_file})")


def _check_tasks(candidate: Candidate, config: RunConfig, known: dict[str | None, Container[str]]) -> None:
    """See that there are tasks of these names; `known` keeps the tables already read, by task_file."""
    from hyperformer.data.tasks import TASKS, get_task, load_user_tasks  # numpy: too slow for --help

    file = config.data.task_file
    try:
        if file not in known:
            known[file] = {*TASKS, *(load_user_tasks(file) if file else ())}
    except ConfigError as error:
        candidate.places.get("task_file", candidate.variant.place).fail(str(error))
    for task in config.data.tasks:
        if task not in known[file]:
            place = candidate.places.get("tasks", candidate.variant.place)
            entries = place.value if isinstance(place.value, list) else []
            place = next((entry for entry in entries if entry.value == task), place)
            try:
                get_task(task)
            except ConfigError as error:
                place.fail(str(error))


def _unused(values: Values) -> frozenset[str]:
    """Settings that cannot change the result of a run with these values."""
    return frozenset(key for key, entry in settings().items() if not entry.is_used(values))


def _named(
    kept: dict[str, tuple[Candidate, RunConfig]], file: SweepFile, resources: Resources
) -> Iterator[Run]:
    """Runs with names made of what differs within their variant."""
    varying: dict[str, list[str]] = {}
    seen: dict[tuple[str, str], set[str]] = {}
    for candidate, config in kept.values():
        skip = _unused(candidate.values) | ({"tasks"} if config.single_task else set())
        for key in candidate.axes:
            if key not in skip:
                seen.setdefault((candidate.variant.name, key), set()).add(value_text(candidate.values[key]))
    for (variant, key), texts in seen.items():
        if len(texts) > 1:
            varying.setdefault(variant, []).append(key)
    asked = {variant.name: file.resources.of_variant(variant.name, resources) for variant in file.variants}
    used: set[str] = set()
    for mark, (candidate, config) in kept.items():
        keys = sorted(varying.get(candidate.variant.name, ()), key=lambda key: key == "seed")
        skip = _unused(candidate.values)
        differs = tuple((key, value_text(candidate.values[key])) for key in keys if key not in skip)
        name = run_name(config, differs)
        if name in used:
            name = f"{name}-{mark}"
        used.add(name)
        yield Run(name, mark, config, differs, file.resources.of_run(name, asked[candidate.variant.name]))
