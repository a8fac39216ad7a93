"""Settings that contradict each other. Imports no torch."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from hyperformer.errors import ConfigError
from hyperformer.settings.precision import zero_stage
from hyperformer.settings.schema import EITHER_OR, RunConfig, TrainingConfig


def check(config: RunConfig, flat: Mapping[str, Any], where: str) -> None:
    """See that a run can have these values together.

    Args:
        flat: the config's flat settings.
        where: file or place named in errors.

    Raises:
        ConfigError: a value contradicts another.
    """

    def fail(key: str, why: str) -> typing.NoReturn:
        raise ConfigError(f"{where}: {key} is {flat[key]!r}, but {why}")

    if not config.output_dir.strip():
        fail("output_dir", "must name a folder")
    for key, other in EITHER_OR:
        if flat[other] is not None and flat[key] != getattr(TrainingConfig(), key):
            fail(other, f"{key} is given too ({flat[key]}); write one of them")
    tasks, adapter = config.data.tasks, config.adapter
    if len(set(tasks)) != len(tasks):
        fail("tasks", "names a task twice")
    if config.data.data_source == "folder" and config.data.data_dir is None:
        fail("data_dir", "data_source=folder needs it: the folder that holds <task>/<split>.jsonl")
    if config.data.data_source != "folder" and config.data.data_dir is not None:
        fail(
            "data_dir", f"data_source is {config.data.data_source}; write data_source=folder to read from it"
        )
    model, training = config.model, config.training
    if model.init_tasks is not None and model.init_from is None:
        fail("init_tasks", "no init_from is given: write init_from=FOLDER, the run to start from")
    for task in model.init_tasks or ():
        if task not in tasks:
            fail("init_tasks", f"{task} is none of the run's tasks ({', '.join(tasks)})")
    if model.init_tasks is not None and adapter.adapter == "none":
        fail("init_tasks", "adapter is none: plain T5 has nothing of a single task")
    if training.reference_optimizer and (zero_stage(training), training.precision) != (0, "fp32"):
        fail("reference_optimizer", "it needs zero_stage=0 and precision=fp32, as theirs was")
    for key in ("adapters", "task_embeddings"):
        if flat[key] is not None and len(flat[key]) != len(tasks):
            fail(key, f"must have one name for each of the {len(tasks)} tasks, in their order")
    if adapter.adapters is not None and adapter.adapter != "task":
        fail("adapters", f"works with adapter=task only (adapter is {adapter.adapter})")
    if adapter.task_embeddings is not None and not adapter.adapter.startswith("hypernetwork"):
        fail("task_embeddings", f"works with the hypernetworks only (adapter is {adapter.adapter})")
    shared = adapter.adapter in ("hypernetwork_shared", "hypernetwork_per_block_type")
    if (
        shared
        and adapter.train_task_embeddings
        and (adapter.task_embedding_dim != adapter.projected_task_embedding_dim)
    ):
        fail(
            "train_task_embeddings",
            "a shared hypernetwork joins the projected task embedding with layer embeddings of "
            f"task_embedding_dim ({adapter.task_embedding_dim}), so projected_task_embedding_dim "
            f"({adapter.projected_task_embedding_dim}) must be equal to it",
        )


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
