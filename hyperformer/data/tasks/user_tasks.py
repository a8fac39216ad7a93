"""Tasks of the user's own, from a YAML file.

A mapping from the task's name to its row::

    reviews:
      template: "review: {text}"     # columns in braces
      target: stars                  # the column with the answer
      labels: ["1", "2", "3"]        # leave out for free text, and give answer_tokens
      metrics: [accuracy]
      hub: {path: owner/reviews}     # leave out if only read from data_dir
      splits: {train: train, validation: dev, test: test}
    notes:
      data: notes.csv                # one file, seen from this one; or a data set: owner/name, owner/name:config
      split: 90/5/5                  # percent of its rows that are train, validation and test
      ...

The keys are the fields of :class:`hyperformer.data.tasks.task.Task`, and mean the same; `data` says `file` or `hub`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from string import Formatter
from typing import Any

from hyperformer.data.metrics import METRICS
from hyperformer.data.readers.files import SUFFIXES, format_of
from hyperformer.data.tasks.recipes import RECIPES
from hyperformer.data.tasks.task import SPLITS, Hub, Task
from hyperformer.data.tasks.validate import task_fault
from hyperformer.errors import nearest
from hyperformer.files import expand_home
from hyperformer.settings.yaml_source import YamlNode, read_yaml

Readers = dict[str, Callable[[YamlNode], Any]]
REQUIRED = ("template", "target", "metrics")
# A column, and perhaps a part of it: "text", "translation[en]". No attributes: a template runs no code.
_FIELD = re.compile(r"[A-Za-z_][\w-]*(\[[\w-]+\])*")
# It names folders and files, and is used in lists: tasks=rte,cola.
_NAME = re.compile(r"[\w][\w .+-]*(?<! )")
_LONGEST_NAME = 150
"""Bytes: with `validation-` before it and a suffix after it, a file system takes 255."""


def load_user_tasks(path: str | Path) -> dict[str, Task]:
    """Read and check a YAML file of tasks.

    Returns:
        the tasks by name.

    Raises:
        ConfigError: no such file, not YAML, or a row that is wrong; the message names the
            file, the line and the key.
    """
    # A template may hold "${price}": a column after a dollar sign, and no environment variable.
    _, root = read_yaml(expand_home(path), expand=False)
    if not isinstance(root.value, dict) or not root.value:
        root.fail("expected a mapping from a task's name to its template, target, metrics, ...")
    folder = expand_home(path).absolute().parent
    return {name: _task(name, node, folder) for name, node in root.value.items()}


def _task(name: str, node: YamlNode, folder: Path) -> Task:
    if not _NAME.fullmatch(name) or len(name.encode()) > _LONGEST_NAME:
        node.fail(
            f"{name!r} cannot be the name of a task: write letters, digits, '-', '_', '.' and '+', at most "
            f"{_LONGEST_NAME} bytes"
        )
    if not isinstance(node.value, dict):
        node.fail(f"expected a mapping with {', '.join(REQUIRED)}, ..., not {node.value_text()}")
    node.mapping(READERS.keys())
    for key in REQUIRED:
        if key not in node.value or node.value[key].value in (None, "", []):
            node.fail(f"{key!r} is missing")
    values = {key: READERS[key](entry) for key, entry in node.value.items()}
    if "data" in values:
        values |= _source(values.pop("data"), node, folder)
    task = Task(name, **values)
    for key in ("splits", "size") if task.split else ():
        if key in node.value:
            node.value[key].fail(
                "split already says which rows are train, validation and test: leave one out"
            )
    fault = task_fault(task)
    if fault is not None:
        key, why = fault
        node.value.get(key, node).fail(why)
    return task


def _text(entry: YamlNode) -> str:
    value = entry.texts()
    if not isinstance(value, str):
        entry.fail(f"must be text (true, false and null in quotes), not {entry.value_text()}")
    return value


def _texts(entry: YamlNode) -> tuple[str, ...]:
    if not isinstance(entry.value, list):
        entry.fail(f"write a list of texts, such as [a, b], not {entry.value_text()}")
    return tuple(map(_text, entry.value))


def _choice(*choices: str) -> Callable[[YamlNode], str]:
    def read(entry: YamlNode) -> str:
        if entry.value not in choices:
            entry.fail(f"is {entry.value_text()}; write one of: {', '.join(map(repr, choices))}")
        return entry.value

    return read


def _truth(entry: YamlNode) -> bool:
    if not isinstance(entry.value, bool):
        entry.fail(f"is {entry.value_text()}; write true or false")
    return entry.value


def _count(entry: YamlNode) -> int:
    if type(entry.value) is not int or entry.value < 1:
        entry.fail(f"is {entry.value_text()}; write a whole number above 0")
    return entry.value


def _template(entry: YamlNode) -> str:
    template = _text(entry)
    try:
        parts = [(field, rest) for _, field, *rest in Formatter().parse(template) if field is not None]
    except ValueError as error:
        entry.fail(f"{template!r}: {error}; write columns as {{column}}")
    if not parts:
        entry.fail(f"{template!r} names no column; write columns as {{column}}")
    for field, rest in parts:
        if any(rest):  # a conversion, such as {text!r}
            entry.fail(f"{field!r} is not a column; write 'column' or 'column[part]', nothing more")
        _check_field(field, entry)
    return template


def _column(entry: YamlNode) -> str:
    return _check_field(_text(entry), entry)


def _check_field(field: str, entry: YamlNode) -> str:
    if not _FIELD.fullmatch(field):
        entry.fail(f"{field!r} is not a column; write 'column' or 'column[part]', nothing more")
    return field


def _metrics(entry: YamlNode) -> tuple[str, ...]:
    names = _texts(entry)
    for name, item in zip(names, entry.value, strict=True):
        if name not in METRICS:
            item.fail(f"unknown metric {name!r}{nearest(name, METRICS)}")
    return names


def _label_map(entry: YamlNode) -> dict[str, str]:
    mapped = {value: _text(label) for value, label in entry.mapping().items()}
    # A column of truth values holds Python's, whose text is "True".
    mapped |= {value.capitalize(): label for value, label in mapped.items() if value in ("true", "false")}
    return mapped


def _splits(entry: YamlNode) -> dict[str, str]:
    if not isinstance(entry.value, dict) or set(entry.value) != set(SPLITS):
        entry.fail(f"is {entry.value_text()}; name the source's split for each of {', '.join(SPLITS)}")
    return {split: _text(name) for split, name in entry.value.items()}


def _hub(entry: YamlNode) -> Hub:
    readers: Readers = {"path": _text, "name": _text, "note": _text, "parquet_copy": _truth}
    if not isinstance(entry.value, dict) or "path" not in entry.value:
        entry.fail(f"is {entry.value_text()}; write {{path: owner/name}}")
    return Hub(**{key: readers[key](value) for key, value in entry.mapping(readers.keys()).items()})


def _source(text: str, node: YamlNode, folder: Path) -> dict[str, Any]:
    """What `data` says: a file, or a place on the hub."""
    entry = node.value["data"]
    if "hub" in node.value:
        entry.fail("hub already says where the rows are: leave one of the two out")
    if format_of(Path(text)) is not None:
        if "split" not in node.value:
            entry.fail(f"{text} is one file: say how its rows are split, such as split: 90/5/5")
        # Whether it is there matters to a run, and not to who reads a trained model's tasks.
        return {"file": os.path.normpath(folder / expand_home(text))}
    path, _, name = text.partition(":")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path) or text.endswith(":"):
        entry.fail(
            f"is {text!r}; write a data set of the hub, owner/name or owner/name:config, or a file that ends with one "
            f"of {', '.join(SUFFIXES)}"
        )
    return {"hub": Hub(path, name or None)}


def _shares(entry: YamlNode) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in str(entry.texts()).split("/"))
    if len(parts) != len(SPLITS) or not all(re.fullmatch(r"\d+(\.\d+)?", part) for part in parts):
        entry.fail(f"is {entry.value_text()}; write percent of train, validation and test, such as 90/5/5")
    if sum(map(Fraction, parts)) != 100:
        entry.fail(f"{'/'.join(parts)} is {float(sum(map(Fraction, parts))):g} percent, and not 100")
    for split, part in zip(SPLITS, parts, strict=True):
        if not Fraction(part):
            entry.fail(f"{'/'.join(parts)}: {split} would have no rows")
    return parts


READERS: Readers = {
    "template": _template,
    "target": _column,
    "metrics": _metrics,
    "labels": _texts,
    "label_map": _label_map,
    "rounded": _truth,
    "answer": _choice("text", "int", "float"),
    "splits": _splits,
    "size": _choice("small", "large", ""),
    "hub": _hub,
    "data": _text,
    "split": _shares,
    "unlabelled_rows": _truth,
    "num_beams": _count,
    "answer_tokens": _count,
    "prefix": _text,
    "group": _template,
    "accepted": _column,
    "recipe": _choice(*filter(None, RECIPES)),
}
"""Each key of a row -> what reads its value."""
