"""The input of ``predict`` and ``evaluate``: rows of a file, by the readers of training, or lines of a pipe."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.data.examples import make_sources
from hyperformer.data.readers.files import FORMATS, TEXT_FORMATS, decode, format_of, read_file
from hyperformer.data.readers.json_rows import parse_record
from hyperformer.data.readers.rows import Rows, record_rows
from hyperformer.data.tasks import Task
from hyperformer.errors import DataError, describe_decode_error

PREDICTION = "prediction"
"""The column of the output that holds the answer."""


@dataclass(frozen=True)
class Item:
    """One input: the text that the model reads, and what is written before the answer."""

    source: str
    columns: dict[str, Any]


@dataclass(frozen=True)
class Input:
    """Where rows come from, and what they are.

    Attributes:
        name: a file, or '-' for standard input.
        form: 'text', one of :data:`FORMATS`, or 'auto': what the file's name tells; where it tells nothing,
            JSON lines if the first line starts with '{', else text.
    """

    name: str
    form: str = "auto"

    def __post_init__(self) -> None:
        if self.name != "-" and not Path(self.name).is_file():
            raise DataError(f"--input {self.name}: there is no such file")

    @property
    def where(self) -> str:
        """The name, for messages."""
        return "standard input" if self.name == "-" else self.name

    @property
    def known_form(self) -> str | None:
        """The format of the rows; None: the first line tells it."""
        if self.form != "auto":
            return self.form
        return None if self.name == "-" else format_of(Path(self.name))

    def rows(self) -> Rows:
        """All rows at once; JSON lines if nothing tells their format.

        Raises:
            DataError: they cannot be read; the message names the line.
        """
        form = self.known_form or "jsonl"
        if form == "text":
            raise DataError(f"{self.where}: lines of text have no columns; wanted are {', '.join(FORMATS)}")
        if self.name != "-":
            return read_file(Path(self.name), form)
        if form == "parquet":
            raise DataError("parquet cannot be read from a pipe; write it to a file, and name that")
        return TEXT_FORMATS[form](decode(sys.stdin.buffer.read(), self.where), self.where)

    def items(self, task: Task, *, prefix: bool) -> Iterator[Item]:
        """The items, in their order. Lines of text and JSON come one at a time.

        Args:
            prefix: start the sources of rows with the task's prefix, as in training.

        Raises:
            DataError: a line cannot be read, or a row lacks a column; the message names the line.
        """
        if self.known_form in (None, "text", "jsonl") and not self.name.endswith(".gz"):
            if self.name == "-":
                return read_lines(sys.stdin.buffer, self, task, prefix=prefix)
            return _lines_of_file(self, task, prefix)
        return _file_items(self.rows(), task, prefix)


def _lines_of_file(source: Input, task: Task, prefix: bool) -> Iterator[Item]:
    with Path(source.name).open("rb") as stream:
        yield from read_lines(stream, source, task, prefix=prefix)


def _file_items(rows: Rows, task: Task, prefix: bool) -> Iterator[Item]:
    if not rows.count:
        return
    _check_no_prediction(rows.names, rows.where)
    sources, records = make_sources(task, rows, prefix=prefix), rows.records()
    for row, (source, record) in enumerate(zip(sources, records, strict=True)):
        try:
            yield Item(source, json.loads(json.dumps(record, allow_nan=False, default=_text)))
        except ValueError as error:
            raise DataError(f"{rows.place(row)}: a value cannot be written as JSON: {error}") from error


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def read_lines(lines: Iterable[bytes], source: Input, task: Task, *, prefix: bool) -> Iterator[Item]:
    """The items of lines of text or JSON. Arguments and errors as of :meth:`Input.items`."""
    form = source.known_form
    for number, line in enumerate(lines, 1):
        place = f"{source.where}, line {number}"
        text = _decode_line(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, place)
        if form is None and text.strip():
            form = _form_of_line(text, place, task)
        if text.strip():
            yield Item(text, {"input": text}) if form == "text" else _json_item(text, place, task, prefix)
        elif form != "jsonl":
            raise DataError(f"{place}: is empty; every line is one text")


def _form_of_line(text: str, place: str, task: Task) -> str:
    """The format that the first line tells: JSON lines, or text if it looks like nothing else."""
    if text.lstrip().startswith("{"):
        return "jsonl"
    other = "json" if re.match(r"\s*\[\s*(\{|$)", text) else None
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        if {name.strip(' "') for name in text.split(delimiter)}.issuperset(task.source_columns):
            other = form
    if other:
        raise DataError(
            f"{place}: {text.strip()[:60]!r} may be the start of {other.upper()}: write --input-format {other}, or "
            "--input-format text to have every line answered as it is"
        )
    return "text"


def _decode_line(line: bytes, place: str) -> str:
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: {describe_decode_error(error)}") from error
    if "\0" in text:
        raise DataError(f"{place}: holds a NUL character; is it text, and UTF-8?")
    return text


def _json_item(text: str, place: str, task: Task, prefix: bool) -> Item:
    try:
        record = parse_record(text)
    except ValueError as error:
        raise DataError(f"{place}: {error}") from error
    _check_no_prediction(record, place)
    (source,) = make_sources(task, record_rows([record], place, lambda _: place), prefix=prefix)
    return Item(source, record)


def _check_no_prediction(names: Iterable[str], place: str) -> None:
    if PREDICTION in names:
        raise DataError(f"{place}: there is a column {PREDICTION!r}, where the answer would go; rename it")
