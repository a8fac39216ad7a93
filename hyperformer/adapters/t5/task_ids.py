"""The task that a call of the model names: what it may be given as, and its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hyperformer.errors import ConfigError, nearest

TaskIds: TypeAlias = Any
"""The task of a batch: its name, or its number in ``config.tasks``. Or the task of each of its B rows:
a list, numpy array or tensor of such, (B,) or (B, 1)."""


def batch_tensor(*inputs: Any) -> Tensor | None:
    """The first input that there is, a tensor with a row per example; of outputs, their first tensor."""
    found = next((value for value in inputs if value is not None), None)
    return found if found is None or isinstance(found, Tensor) else found[0]


def task_number(tasks: Sequence[str], task: str) -> int:
    """The number of a task.

    Raises:
        ConfigError: the model was not made for this task.
    """
    if task not in tasks:
        raise ConfigError(f"task {task!r} is not one of this model's{nearest(task, tasks)}")
    return list(tasks).index(task)


def one_of(task: TaskIds | None, task_ids: TaskIds | None) -> TaskIds | None:
    """What was given.

    Raises:
        ConfigError: both were.
    """
    if task is not None and task_ids is not None:
        raise ConfigError("both task and task_ids are given: give one of them")
    return task if task is not None else task_ids


def task_numbers(tasks: Sequence[str], given: TaskIds | None, batch: Tensor | None) -> int | Tensor:
    """The task of a batch as a number, or the tasks of its rows as a tensor (B,) on the batch's device.

    Args:
        tasks: the model's, in the order of the numbers.
        batch: a tensor with a row per example, (B, ...). None: the length is not checked.

    Raises:
        ConfigError: no task is named, or one that the model does not have; or not one per row.
    """
    if given is None:
        raise ConfigError("this model has adapters: say for which task, by task='...' or task_ids=...")
    if isinstance(given, Tensor):
        numbers = _checked_tensor(tasks, given)
        if numbers.dim() == 0:
            return int(numbers)
    else:
        values = given.tolist() if hasattr(given, "tolist") else given  # numpy, pandas
        if not isinstance(values, list | tuple):
            return _number(tasks, values)
        numbers = torch.tensor([_number(tasks, value) for value in values], dtype=torch.long)
    if batch is None:
        return numbers
    if len(numbers) != len(batch):
        raise ConfigError(
            f"task_ids names {len(numbers)} tasks for a batch of {len(batch)} rows: write one per row"
        )
    return numbers.to(batch.device)


def _number(tasks: Sequence[str], value: Any) -> int:
    """One task, as a number or a name, perhaps in a list or a tensor of its own."""
    given, value = value, value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return task_number(tasks, value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"task_ids: {given!r} is neither the number nor the name of a task")
    if not 0 <= value < len(tasks):
        raise _out_of_range(tasks, value)
    return value


def _checked_tensor(tasks: Sequence[str], numbers: Tensor) -> Tensor:
    """A tensor of numbers as (B,) or (), seen to be of tasks.

    Raises:
        ConfigError: it is not. (A compiled graph raises RuntimeError, or fails as CUDA's assertions do.)
    """
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool:
        raise ConfigError(f"task_ids must be whole numbers, not {numbers.dtype}")
    if numbers.dim() == 2 and numbers.shape[1] == 1:
        numbers = numbers.squeeze(1)
    if numbers.dim() > 1:
        raise ConfigError(f"task_ids has the shape {tuple(numbers.shape)}: write one task per row, (B,)")
    wrong = (numbers < 0) | (numbers >= len(tasks))
    if torch.compiler.is_compiling():
        torch._assert_async(~wrong.any(), "task_ids: a number is not that of one of the model's tasks")
    elif not numbers.is_meta and bool(wrong.any()):
        raise _out_of_range(tasks, int(numbers[wrong][0]))
    return numbers.long()


def _out_of_range(tasks: Sequence[str], number: int) -> ConfigError:
    return ConfigError(f"task_ids: {number} is not the number of a task; the {len(tasks)} tasks count from 0")
