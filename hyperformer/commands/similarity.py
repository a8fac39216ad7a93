"""How similar a model's tasks are to its hypernetwork: cosine similarity of their embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperformer.adapter_folder import AdapterFiles, adapter_files
from hyperformer.adapters.hub import find_folder
from hyperformer.adapters.methods.hypernetworks import TaskEmbeddings
from hyperformer.adapters.modules import distinct
from hyperformer.adapters.record import read_record
from hyperformer.adapters.save import read_safetensors
from hyperformer.adapters.trained_model import load_model
from hyperformer.errors import CheckpointError, ConfigError
from hyperformer.files import atomic_write
from hyperformer.settings.methods import METHODS

FORMATS = ("png", "svg")
_PREFIX = "adapters.task_embeddings."


def task_similarity(name: str | Path) -> tuple[list[str], Tensor]:
    """Cosine similarity of the task embeddings: the T tasks, and (T, T). Arguments and errors: `task_embeddings`."""
    tasks, embeddings = task_embeddings(name)
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    return tasks, unit @ unit.T


def task_embeddings(name: str | Path) -> tuple[list[str], Tensor]:
    """The task embeddings as the hypernetworks read them, after the projection if there is one.

    Args:
        name: folder or repository of an adapter (its T5 is not needed) or of a whole model.

    Returns:
        The T tasks, and (T, dim), detached.

    Raises:
        ConfigError: the model has no task embeddings.
        CheckpointError: it cannot be loaded.
    """
    folder = find_folder(name)
    files = adapter_files(folder)
    if files.config.exists():
        tasks, embeddings = _of_adapter(files)
    else:
        model = load_model(folder)
        tasks = list(model.config.tasks or [])
        found = model.adapters.task_embeddings if model.adapters is not None else None
        if found is None or model.adapters is None:
            raise _no_embeddings(model.config.adapter_config.adapter)
        embeddings = found(None)[model.adapters.index]
    return tasks, embeddings.detach()


def _of_adapter(files: AdapterFiles) -> tuple[list[str], Tensor]:
    """(tasks, their embeddings (T, dim)) of an adapter."""
    record = read_record(files.config)
    if not METHODS[record.adapter.adapter].has_task_embeddings:
        raise _no_embeddings(record.adapter.adapter)
    weights = read_safetensors(files.weights)
    names = list(record.adapter.task_embeddings or record.tasks)
    module = TaskEmbeddings(record.adapter, len(distinct(tuple(names))))
    try:
        module.load_state_dict(
            {k.removeprefix(_PREFIX): v for k, v in weights.items() if k.startswith(_PREFIX)}
        )
    except RuntimeError as error:
        raise CheckpointError(f"{files.weights} does not fit {files.config.name}: {error}") from error
    rows = [distinct(tuple(names)).index(name) for name in names]
    return record.tasks, module(None)[rows]


def _no_embeddings(kind: str) -> ConfigError:
    return ConfigError(f"this model has no task embeddings (its adapter is {kind!r}); a hypernetwork's has")


def similarity_table(tasks: list[str], similarity: Tensor) -> str:
    """The matrix as text."""
    width = max(6, *map(len, tasks))
    lines = [" " * width + "".join(f"  {task:>{width}}" for task in tasks)]
    for task, row in zip(tasks, similarity.tolist(), strict=True):
        lines.append(f"{task:<{width}}" + "".join(f"  {value:>{width}.2f}" for value in row))
    return "\n".join(lines)


def check_plot(output: Path) -> None:
    """Check, before any work, that the plot can be drawn.

    Raises:
        ConfigError: matplotlib is missing, or the file's suffix or folder is wrong.
    """
    if output.suffix.removeprefix(".") not in FORMATS:
        raise ConfigError(
            f"{output}: write a file that ends in {' or '.join('.' + form for form in FORMATS)}"
        )
    if not output.parent.is_dir():
        raise ConfigError(f"{output}: there is no folder {output.parent}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigError('plots need matplotlib: pip install "hyperformer[plot]"') from error


def plot_similarity(tasks: list[str], similarity: Tensor, output: Path) -> None:
    """Draw the matrix into a .png or .svg file, written atomically."""
    check_plot(output)
    from matplotlib.figure import Figure

    size = 2.5 + 0.6 * len(tasks)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes: Any = figure.subplots()
    image = axes.imshow(similarity.numpy(), vmin=-1, vmax=1, cmap="RdBu_r")
    axes.set_xticks(range(len(tasks)), tasks, rotation=45, ha="right")
    axes.set_yticks(range(len(tasks)), tasks)
    for row, values in enumerate(similarity.tolist()):
        for column, value in enumerate(values):
            color = "white" if abs(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
    axes.set_title("Cosine similarity of the task embeddings")
    figure.colorbar(image, ax=axes)
    with atomic_write(output, "wb") as stream:
        figure.savefig(stream, format=output.suffix.removeprefix("."), dpi=150)
