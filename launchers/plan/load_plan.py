"""A sweep file -> the list of its runs. Reads config files and what settings name; writes nothing of the sweep.

A run's settings come in layers, the later ones on top: the variant's config
file; `config`; `base`; `tasks`; `zip` and `grid`; `overrides`. Settings that a
variant does not use (a reduction factor without adapters) go back to their
defaults, so combinations that differ in nothing else are one run.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hyperformer.errors import ConfigError
from hyperformer.settings.build import cached_flat, flatten
from hyperformer.settings.schema import RunConfig
from hyperformer.settings.signature import settings_hash, signature, unread_settings, with_seed  # fmt: skip
from hyperformer.settings.values import coerce, settings
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.grid.check_combination import PlannedRun, RunPlanner, unused_settings
from launchers.plan.grid.combinations import Values, candidates
from launchers.plan.model_selection.check import check_rule, task_metrics
from launchers.plan.plan import Plan, Run
from launchers.plan.race.check import check_race
from launchers.plan.run_names import run_name, value_text
from launchers.plan.sweep_file import SWEEPS, SweepFile, read_sweep
from launchers.plan.sweep_keys.column_order import check_columns
from launchers.plan.sweep_keys.source_runs import FindSource, SourceRun, with_source
from launchers.plan.sweep_keys.stages import StageSource, is_not_known_yet, split_target

if TYPE_CHECKING:
    from hyperformer.data.contents import Contents

_DEFAULTS = flatten(RunConfig())
_Differs = tuple[tuple[str, str], ...]


def no_sources(source: StageSource, values: Values) -> SourceRun | None:
    """Of a plan that is made alone: no earlier stage has results."""
    return None


def load_plan(name: str, profile: ClusterProfile) -> Plan:
    """The plan of the sweep file `name` (path, or name of a shipped one), or FILE:STAGE, on the profile's cluster.

    Raises:
        ConfigError: with file, line and key.
    """
    file, stage = split_target(name)
    return make_plan(read_sweep(SWEEPS.find(file), stage), profile)


def make_plan(
    file: SweepFile, profile: ClusterProfile, reads: bool = True, find_source: FindSource = no_sources
) -> Plan:
    """Expand a sweep file; this is where the resources of its runs are decided, and nowhere else.

    Args:
        reads: the files that settings name; otherwise all of them count as files that cannot be read.
        find_source: finds the run of an earlier stage that a run starts from.

    Raises:
        UnreadableInput: one of these files is there and is not what it should be.
        ConfigError: a setting has an impossible value (file, line and key), or no run is left.
    """
    from hyperformer.data.contents import Contents  # numpy: too slow for --help

    contents = Contents() if reads else None
    expanded = _expand(file, contents, find_source)
    runs = tuple(_named(expanded.runs, file, profile))
    notes = [
        *(f"{next(iter(rule.values())).where}: matches no run" for rule in expanded.idle_rules),
        *(
            f"{node.where}: no run has such a name"
            for pattern, node in file.resources.runs
            if not any(fnmatch.fnmatchcase(run.name, pattern) for run in runs)
        ),
    ]
    metrics = task_metrics(runs, contents) if file.select or file.race or file.columns else {}
    tasks = list(dict.fromkeys(task for run in runs for task in run.config.data.tasks))
    if file.race is not None:
        notes += check_race(file.race, runs, metrics)
    elif file.select is not None:
        notes += check_rule(file.select, runs, metrics)
    waits = any(is_not_known_yet(run.config.model.init_from) for run in runs)
    if waits:
        notes.append(f"{file.name}: which runs it starts from is known when those before it are done")
    return Plan(
        name=file.name,
        source=file.source,
        text=file.text,
        profile=profile,
        runs=runs,
        max_parallel=file.max_parallel or profile.max_parallel,
        merged=expanded.total - expanded.excluded - len(expanded.runs),
        excluded=expanded.excluded,
        notes=tuple(notes),
        select=file.select or (file.race.choice if file.race else None),
        race=file.race,
        columns=check_columns(file.columns, tasks, metrics),
        waits=waits,
        renew_report=profile.renew_report if file.renew_report is None else file.renew_report,
    )


@dataclass(frozen=True)
class _Expanded:
    """The runs of a sweep file before they have names.

    Attributes:
        total: combinations in all, of which `excluded` were dropped.
        idle_rules: those of `exclude` that drop nothing.
    """

    runs: list[PlannedRun]
    total: int
    excluded: int
    idle_rules: list[dict[str, YamlNode]]


def _expand(file: SweepFile, contents: Contents | None, find_source: FindSource) -> _Expanded:
    """Every combination that is not excluded, equal ones once; raises ConfigError if none is left."""
    planned: dict[str, PlannedRun] = {}
    hits: Counter[int] = Counter()
    total = excluded = 0
    planner = RunPlanner(file, contents)
    for variant in file.variants:
        for candidate in candidates(file, variant):
            total += 1
            rules = [index for index, rule in enumerate(file.exclude) if _matches(rule, candidate.values)]
            hits.update(rules)
            if rules:
                excluded += 1
                continue
            values = with_source(candidate, file.earlier, find_source)
            if values is not candidate.values:
                candidate = dataclasses.replace(candidate, values=values, like=None)
            one = planner.plan(candidate)
            planned.setdefault(signature(one.config), one)
    if not planned:
        raise ConfigError(f"{file.source}: no run is left: `exclude` drops all {total} of them")
    idle = [rule for index, rule in enumerate(file.exclude) if not hits[index]]
    return _Expanded(list(planned.values()), total, excluded, idle)


def _matches(rule: dict[str, YamlNode], values: Values) -> bool:
    for key, node in rule.items():
        mine = _same_spelling(key, _value(key, values))
        wanted = node.plain() if key == "task" else settings()[key].value_of(node)
        several = wanted if isinstance(wanted, list) else []
        if mine not in [_same_spelling(key, each) for each in (wanted, *several)]:
            return False
    return True


def _value(key: str, values: Values) -> Any:
    """What an exclude compares: a setting (its default if nobody set it), or the task of a run with one."""
    if key == "task":
        return values["tasks"][0] if len(values["tasks"]) == 1 else None
    return values.get(key, _DEFAULTS[key])


def _same_spelling(key: str, value: Any) -> Any:
    """`value` as a config has it; as it is where no config can have it."""
    try:
        return coerce(key, value, "") if key != "task" else value
    except ConfigError:
        return value


def _named(planned: list[PlannedRun], file: SweepFile, profile: ClusterProfile) -> Iterator[Run]:
    """Runs with names made of what differs within their variant, and with their resources."""
    from hyperformer.data.contents import with_global_batch

    texts = _texts(planned)
    labels = {one.variant: one.config.variant for one in planned}
    with_label = Counter(labels.values())
    asked = {name: file.resources.of_variant(name, profile.resources) for name in labels}
    used: set[str] = set()
    shared: dict[int, tuple[_Differs, bool]] = {}
    configs: dict[tuple[int, int], RunConfig] = {}
    for one in planned:
        setting, seeds = one.candidate.setting, texts[one.variant].get("seed")
        if setting not in shared:
            label = [one.variant] if with_label[one.config.variant] > 1 else []
            is_read = not (unread_settings(one.config) or one.missing)
            shared[setting] = _differs(one, texts[one.variant], label), is_read
        differs, is_read = shared[setting]
        if seeds:
            differs += (("seed", seeds[repr(one.config.seed)]),)
        name = run_name(one.config, differs)
        if name in used:
            name = f"{name}-{signature(one.config)}"
        used.add(name)
        resources = file.resources.of_run(name, asked[one.variant])
        ranks = 1 if profile.is_local else resources.ranks
        if (setting, ranks) in configs:
            config = with_seed(configs[setting, ranks], one.config.seed)
        else:
            config = with_global_batch(one.config, one.config.training.rows_per_rank * ranks)
            configs[setting, ranks] = config
        yield Run(
            name, signature(config), config, differs, resources, one.legacy_signature, settings_hash(config),
            is_read, one.missing, one.config.contents or {},
        )  # fmt: skip


def _differs(one: PlannedRun, texts: Mapping[str, Mapping[str, str]], label: Sequence[str]) -> _Differs:
    """In which settings a run differs from others of its variant, the seed apart. `label`: of one of two configs."""
    flat, skip = cached_flat(one.config), {"seed", *_not_named(one)}
    differs = [(key, found[repr(flat[key])]) for key, found in texts.items() if key not in skip]
    return (*(("config", text) for text in label), *differs)


def _texts(planned: list[PlannedRun]) -> dict[str, dict[str, dict[str, str]]]:
    """Variant -> setting -> value -> its text: of settings with several values, each text once, seed last."""
    found: dict[str, dict[str, dict[str, tuple[Any, Any]]]] = {}
    seen: set[int] = set()
    for one in planned:
        flat, values = cached_flat(one.config), found.setdefault(one.variant, {})
        is_first = one.candidate.setting not in seen
        seen.add(one.candidate.setting)
        skip = _not_named(one) if is_first else ()
        for key in one.candidate.axes if is_first else ("seed",):
            if key not in skip:
                # A path is shown as the user wrote it first.
                shown = one.candidate.values[key] if settings()[key].path else flat[key]
                values.setdefault(key, {}).setdefault(repr(flat[key]), (flat[key], shown))
    return {
        variant: {
            key: _told_apart(values[key]) for key in sorted(values, key="seed".__eq__) if len(values[key]) > 1
        }
        for variant, values in found.items()
    }


def _not_named(one: PlannedRun) -> frozenset[str]:
    """Settings that no name of the run tells; the task of a single-task run is in its name anyway."""
    return unused_settings(one.candidate.values) | ({"tasks"} if one.config.single_task else set())


def _told_apart(values: dict[str, tuple[Any, Any]]) -> dict[str, str]:
    """A text for each of a setting's values, of which it is known how each is shown."""
    texts = {value: value_text(shown) for value, (_, shown) in values.items()}
    if len(set(texts.values())) < len(texts):  # null and the text "None"; [a+b] and [a, b]
        return {value: json.dumps(own, ensure_ascii=False) for value, (own, _) in values.items()}
    return texts
