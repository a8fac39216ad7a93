"""Settings of the data: tasks, where their rows come from, and how they are mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hyperformer.settings.schema.field import PATH, POSITIVE, SIZE, setting


@dataclass(frozen=True)
class DataConfig:
    """What is trained on."""

    tasks: tuple[str, ...] = setting((), "tasks to train and evaluate")
    task_file: str | None = setting(None, "YAML file with tasks of your own", path=PATH)
    data_source: Literal["hub", "folder", "toy"] = setting(
        "hub", "hub: Hugging Face; folder: data_dir; toy: built in"
    )
    data_dir: str | None = setting(
        None, "data_source=folder: holds <task>/<split>.jsonl, .json, .csv, .tsv or .parquet", path=PATH
    )
    cache_dir: str | None = setting(
        None, "folder for tokenised rows; default: ~/.cache/hyperformer", result=False, path=PATH
    )
    max_source_length: int = setting(128, "source tokens kept", bounds=SIZE)
    max_target_length: int = setting(128, "target tokens kept", bounds=SIZE)
    task_prefix: bool | None = setting(
        None, "start each source with the task's name; default: if the adapters do not know the task"
    )
    mixing: Literal["temperature", "proportional", "equal", "weights"] = setting(
        "temperature",
        "how often each task is drawn; temperature: ~ size^(1/temperature); proportional: ~ size; equal: alike; "
        "weights: ~ task_weights",
        several_tasks=True,
    )
    temperature: float = setting(
        10.0, "task sampling: probability ~ size^(1/temperature)", bounds=POSITIVE, several_tasks=True
    )
    task_weights: Mapping[str, float] | None = setting(
        None,
        "mixing=weights: the weight of each task, such as {mnli: 2, rte: 1}",
        hash=False,
        bounds=POSITIVE,
        several_tasks=True,
    )
    mixing_cap: int | Mapping[str, int] | None = setting(
        None,
        "mixing by temperature or proportional: rows that count at most as a task's size (all are trained on); a "
        "number for every task, or a map such as {mnli: 5000}",
        hash=False,
        bounds=POSITIVE,
        several_tasks=True,
    )
    batching: Literal["task", "mixed"] = setting(
        "task",
        "rows of a step; task: all of one task (the paper's); mixed: the task of each row is drawn by itself",
        several_tasks=True,
    )
    n_train: int | None = setting(None, "training rows per task, at most", bounds=POSITIVE)
    n_val: int | None = setting(None, "validation rows per task, at most", bounds=POSITIVE)
    n_test: int | None = setting(None, "test rows per task, at most", bounds=POSITIVE)
    reference_splits: bool = setting(False, "the authors' splits, with their overlap of train and validation")
    reference_sampler: bool = setting(False, "the authors' sampler: rows with replacement, seed always 0")
    group_by_length: bool = setting(
        False,
        "training: batches of rows of like length, so that less is padded; each row still once per pass",
    )
