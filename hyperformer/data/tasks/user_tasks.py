"""Tasks of the user's own, from a YAML file.

A mapping from the task's name to its row::

    reviews:
      template: "review: {text}"     # columns in braces
      target: stars                  # the column with the answer
      labels: ["1", "2", "3"]        # leave out for free text, and give answer_tokens
      metrics: [accuracy]
      hub: {path: owner/reviews}     # leave out if only read from data_dir
      splits: {train: train, validation: dev, test: test}

The keys are the fields of :class:`hyperformer.data.tasks.task.Task`, and mean the same.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from string import Formatter
from typing import Any

from hyperformer.data.metrics import METRICS
from hyperformer.data.tasks.task import SPLITS, Hub, Task
from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.yaml_source import Located, read_yaml

KEYS = {f.name for f in dataclasses.fields(Task)} - {"name", "aliases"}
TYPED = frozenset({"answer_tokens", "num_beams", "rounded", "unlabelled_rows"})
REQUIRED = ("template", "target", "metrics")
CHOICES = {"answer": ("text", "int", "float"), "size": ("small", "large", "")}
# A column, and perhaps a part of it: "text", "translation[en]". No attributes: a template runs no code.
FIELD = re.compile(r"[A-Za-z_][\w-]*(\[[\w-]+\])*")


def load_user_tasks(path: str | Path) -> dict[str, Task]:
    """Read and check a YAML file of tasks.

    Returns:
        the tasks by name.

    Raises:
        ConfigError: no such file, not YAML, or a row that is wrong; the message names the
            file, the task and the key.
    """
    # A template may hold "${price}": a column after a dollar sign, and no environment variable.
    _, root = read_yaml(Path(path), expand=False)
    if not isinstance(root.value, dict) or not root.value:
        root.fail("expected a mapping from a task's name to its template, target, metrics, ...")
    return {name: _task(name, node) for name, node in root.value.items()}


def _task(name: str, node: Located) -> Task:
    where = f"{node.file}, line {node.line}: task {name!r}"
    if not isinstance(node.value, dict):
        node.fail(f"expected a mapping with {', '.join(REQUIRED)}, ..., not {node.value_text()}")
    # Labels and the like are texts, as they are written: 1.50 is not 1.5.
    row = {key: entry.plain() if key in TYPED else entry.texts() for key, entry in node.value.items()}
    for key in row:
        if key not in KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(key, KEYS)}")
    for key in REQUIRED:
        if not row.get(key):
            raise ConfigError(f"{where}: {key!r} is missing")
    for key, choices in CHOICES.items():
        if row.get(key, choices[0]) not in choices:
            raise ConfigError(
                f"{where}: {key} is {row[key]!r}; write one of: {', '.join(map(repr, choices))}"
            )
    _check_fields(row["template"], row["target"], where)
    settings = dict(row)
    settings["metrics"] = _texts(row["metrics"], f"{where}: metrics")
    for metric in settings["metrics"]:
        if metric not in METRICS:
            raise ConfigError(f"{where}: unknown metric {metric!r}{nearest(metric, METRICS)}")
    if row.get("labels"):
        settings["labels"] = _texts(row["labels"], f"{where}: labels")
    elif not row.get("answer_tokens"):
        raise ConfigError(f"{where}: give labels (the list of answers), or answer_tokens for free text")
    for key in ("answer_tokens", "num_beams"):
        if key in row and (type(row[key]) is not int or row[key] < 1):
            raise ConfigError(f"{where}: {key} is {row[key]!r}; write a whole number above 0")
    for key in ("rounded", "unlabelled_rows"):
        if key in row and type(row[key]) is not bool:
            raise ConfigError(f"{where}: {key} is {row[key]!r}; write true or false")
    if "label_map" in row:
        settings["label_map"] = _label_map(row["label_map"], settings.get("labels"), where)
    if "splits" in row:
        settings["splits"] = _splits(row["splits"], where)
    if "hub" in row:
        settings["hub"] = _hub(row["hub"], where)
    return Task(name, **settings)


def _check_fields(template: Any, target: Any, where: str) -> None:
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: template {template!r}: {error}; write columns as {{column}}") from error
    if not parts:
        raise ConfigError(f"{where}: template {template!r} names no column; write columns as {{column}}")
    for field, specification, conversion in [*parts, (target, "", None)]:
        if not isinstance(field, str) or not FIELD.fullmatch(field) or specification or conversion:
            raise ConfigError(
                f"{where}: {field!r} is not a column; write 'column' or 'column[part]', nothing more"
            )


def _texts(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or any(
        isinstance(value, (dict, list, bool, type(None))) for value in values
    ):
        raise ConfigError(f"{where} is {values!r}; write a list of texts (in quotes: true, false and null)")
    return tuple(str(value) for value in values)


def _label_map(values: Any, labels: tuple[str, ...] | None, where: str) -> dict[str, str]:
    if not isinstance(values, dict) or not labels:
        raise ConfigError(f"{where}: label_map maps values of the target column to labels, and needs labels")
    mapped = {value: str(label) for value, label in values.items()}
    # A column of truth values holds Python's, whose text is "True".
    mapped |= {value.capitalize(): label for value, label in mapped.items() if value in ("true", "false")}
    for label in mapped.values():
        if label not in labels:
            raise ConfigError(
                f"{where}: label_map gives {label!r}, which is not in labels{nearest(label, labels)}"
            )
    return mapped


def _splits(values: Any, where: str) -> dict[str, str]:
    if not isinstance(values, dict) or set(values) != set(SPLITS):
        raise ConfigError(
            f"{where}: splits is {values!r}; name the source's split for each of {', '.join(SPLITS)}"
        )
    return {split: str(name) for split, name in values.items()}


def _hub(values: Any, where: str) -> Hub:
    known = [f.name for f in dataclasses.fields(Hub)]
    if not isinstance(values, dict) or not values.get("path"):
        raise ConfigError(f"{where}: hub is {values!r}; write {{path: owner/name}}")
    for key in values:
        if key not in known:
            raise ConfigError(f"{where}: hub: unknown key {key!r}{nearest(key, known)}")
    return Hub(**values)
