"""Settings that contradict each other. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.extras import extra_faults
from hyperformer.settings.methods import METHOD_OPTIONS, METHODS, TOLERANT
from hyperformer.settings.precision import zero_stage
from hyperformer.settings.schema import (
    EITHER_OR,
    AdapterConfig,
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
)


def check(config: RunConfig, flat: Mapping[str, Any], where: str) -> None:
    """See that a run can have these values together.

    Args:
        flat: the config's flat settings.
        where: file or place named in errors.

    Raises:
        ConfigError: a value contradicts another.
    """

    fault = next(_faults(config, flat), None)
    if fault is not None:
        key, why = fault
        raise ConfigError(f"{where}: {key} is {flat[key]!r}, but {why}")


def _faults(config: RunConfig, flat: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A setting that contradicts another, and why."""
    data, training = config.data, config.training
    if not config.output_dir.strip():
        yield "output_dir", "must name a folder"
    for key, other in EITHER_OR:
        if flat[other] is not None and flat[key] != getattr(TrainingConfig(), key):
            yield other, f"{key} is given too ({flat[key]}); write one of them"
    if len(set(data.tasks)) != len(data.tasks):
        yield "tasks", "names a task twice"
    if data.data_source == "folder" and data.data_dir is None:
        yield "data_dir", "data_source=folder needs it: the folder that holds <task>/<split>.jsonl"
    if data.data_source != "folder" and data.data_dir is not None:
        yield "data_dir", f"data_source is {data.data_source}; write data_source=folder to read from it"
    yield from _start_faults(config)
    yield from _mixing_faults(data)
    yield from _batching_faults(config)
    if training.early_stop is not None and not config.validates:
        yield "early_stop", "do_eval is false, so that there is no validation to stop by"
    if training.early_stop is None and training.early_stop_min_delta:
        yield "early_stop_min_delta", "early_stop is not given: write the patience, such as early_stop=3"
    if training.reference_optimizer and (zero_stage(training), training.precision) != (0, "fp32"):
        yield "reference_optimizer", "it needs zero_stage=0 and precision=fp32, as theirs was"
    for key in ("adapters", "task_embeddings"):
        if flat[key] is not None and len(flat[key]) != len(data.tasks):
            yield key, f"must have one name for each of the {len(data.tasks)} tasks, in their order"
    yield from _unused_options(config.adapter, flat)
    yield from METHODS[config.adapter.adapter].faults(config.adapter)
    yield from extra_faults(config, flat)


def _start_faults(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Of a run that starts from another."""
    names, tasks = config.model.init_tasks, config.data.tasks
    if config.model.init_from is not None and not config.model.init_from.strip():
        yield (
            "init_from",
            "must name the folder of a run; leave it out, or write null, to start from T5 alone",
        )
    if names is not None and config.model.init_from is None:
        yield "init_tasks", "no init_from is given: write init_from=FOLDER, the run to start from"
    for task in names or ():
        if task not in tasks:
            yield "init_tasks", f"{task} is none of the run's tasks ({', '.join(tasks)})"
    kind = config.adapter.adapter
    if names is not None and not METHODS[kind].task_rows:
        yield "init_tasks", f"adapter is {kind}: it has no weights of a single task"


def _mixing_faults(data: DataConfig) -> Iterator[tuple[str, str]]:
    """Of how tasks are mixed: a value that has no effect would be taken for one that has."""
    by_size = data.mixing in ("temperature", "proportional")
    is_plain = data.mixing == "temperature" and data.mixing_cap is None
    if data.reference_sampler and not is_plain:
        key = "mixing" if data.mixing != "temperature" else "mixing_cap"
        yield key, "reference_sampler is true, and the authors draw by temperature, without a cap"
    if data.reference_sampler and data.group_by_length:
        yield "group_by_length", "reference_sampler is true, and the authors draw rows whatever their length"
    if data.mixing != "temperature" and data.temperature != DataConfig().temperature:
        yield "temperature", f"mixing is {data.mixing}: leave one of the two out"
    if data.mixing == "weights" and data.task_weights is None:
        yield "mixing", "there are no task_weights: write task_weights={mnli: 2, rte: 1}"
    if data.mixing != "weights" and data.task_weights is not None:
        yield "task_weights", f"mixing is {data.mixing}: write mixing=weights, or leave them out"
    if data.mixing_cap is not None and not by_size:
        yield "mixing_cap", f"mixing is {data.mixing}, which does not depend on the tasks' sizes"
    caps = data.mixing_cap if isinstance(data.mixing_cap, Mapping) else {}
    for key, named in (("task_weights", data.task_weights or {}), ("mixing_cap", caps)):
        for task in named:
            if task not in data.tasks:
                yield key, f"{task} is none of the run's tasks ({', '.join(data.tasks)})"
    missing = [task for task in data.tasks if data.task_weights and task not in data.task_weights]
    if missing:
        yield "task_weights", f"it has no weight of {', '.join(missing)}"


def _batching_faults(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Of batches with rows of several tasks."""
    data, adapter = config.data, config.adapter
    if data.batching == "task":
        return
    if data.reference_sampler:
        yield "batching", "reference_sampler is true, and the authors' batches are each of one task"
    if data.group_by_length:
        yield (
            "group_by_length",
            "batching is mixed, and rows of like length are found within a task: write batching=task",
        )
    shares = len(set(adapter.adapters or data.tasks)) < 2
    if METHODS[adapter.adapter].extra and not shares:
        yield (
            "batching",
            f"adapter is {adapter.adapter}: {METHODS[adapter.adapter].extra} trains one adapter per forward. Write "
            "batching=task, or let all tasks share one adapter: "
            f"adapters=[{', '.join(['shared'] * len(data.tasks))}]",
        )


def _unused_options(adapter: AdapterConfig, flat: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Options of other methods. A sweep leaves them out of its runs before."""
    kind = adapter.adapter
    for key, default in _refused(kind):
        if flat[key] != default:
            options = ", ".join(METHODS[kind].options) or "none"
            yield key, f"adapter is {kind}, which does not use it; its options are {options}"


@functools.cache
def _refused(kind: str) -> list[tuple[str, Any]]:
    """The options that a method does not use, and their defaults."""
    defaults = vars(ModelConfig()) | vars(AdapterConfig()) | vars(TrainingConfig())
    # Options that name rows of tasks were never accepted without effect.
    refused = METHOD_OPTIONS if kind not in TOLERANT else {one.task_rows for one in METHODS.values()} - {""}
    return [(key, defaults[key]) for key in sorted(refused - set(METHODS[kind].options))]


def check_schedule(training: TrainingConfig) -> None:
    """See that the warm-up ends before the run does. Runs of versions that took no notice may end as they began.

    Raises:
        ConfigError: the learning rate would never reach its peak.
    """
    is_known = training.num_train_epochs is None and training.warmup_ratio is None
    if is_known and training.lr_scheduler != "constant" and training.warmup_steps > training.max_steps:
        raise ConfigError(
            f"warmup_steps is {training.warmup_steps}, but the run has only {training.max_steps} steps: the learning "
            "rate would never reach its peak. Write warmup_steps=0, or warmup_ratio=0.1 for a tenth of the steps"
        )
