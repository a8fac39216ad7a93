"""Rows of CSV and TSV: every value is text, and every row has as many fields as the header.

A text with quotation marks can be read in two ways: quoted (RFC 4180: ``"a, b"`` is one
field, and ``""`` in it is a quotation mark), or plain, where a quotation mark is text like any
other (IANA's text/tab-separated-values, and GLUE's files).

- CSV is quoted.
- TSV is plain if it makes no sense as quoted, and quoted if it makes no sense as plain. Where
  both make sense, it is quoted if its writer quoted only what must be, or all texts.
- The rest is refused, and so is a file whose quoted field may as well be several rows.

Of the readers that we tried (csv, pandas, pyarrow, polars, datasets) only Python's csv in its
strict mode refuses a quoted field that has text after it, and knows the lines.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from itertools import chain, dropwhile, islice
from operator import not_
from typing import Any, NamedTuple

from hyperformer.data.readers.rows import Rows
from hyperformer.errors import DataError

_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "vertical bar"}
_NUMBER = re.compile(r"[-+]?[\d.]*(?:[eE][-+]?\d+)?")
_CHUNK = 1_000
_OTHERWISE = "write the file as JSON lines, which can be read in one way only"

Columns = list[list[str]]
"""The header's name of each column, and the values below it."""


class _Dialect(NamedTuple):
    delimiter: str
    quoted: bool


class _Fault(Exception):
    """The text is not of this dialect."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def parse_delimited(text: str, where: str, delimiter: str) -> Rows:
    """The rows of CSV (`delimiter` a comma) or TSV (a tab).

    Args:
        where: the file's name for errors.

    Raises:
        DataError: the text cannot be understood, or in two ways; the message names the line.
    """
    text = text.rstrip("\r\n")
    try:
        dialect, columns = _choose(text, delimiter)
        _check_escapes(text, dialect)
    except _Fault as fault:
        raise DataError(f"{where}, line {fault.line}: {fault}") from None
    header = [column[0] for column in columns]
    if len(header) == 1:
        _check_delimiter(header[0], where, delimiter)
    return Rows(
        where,
        header,
        len(columns[0]) - 1 if columns else 0,
        lambda name: columns[header.index(name)][1:],
        lambda row: f"{where}, line {_line(text, dialect, row + 1)}",
    )


def _check_delimiter(header: str, where: str, delimiter: str) -> None:
    """See that a header of one field is not one of several, separated otherwise."""
    for sign in _NAMES.keys() - {delimiter}:
        if sign in header:
            raise DataError(
                f"{where}, line 1: the header is one field, {header!r}; it seems to be separated by a {_NAMES[sign]}, "
                f"and this format separates fields by a {_NAMES[delimiter]}"
            )


def _choose(text: str, delimiter: str) -> tuple[_Dialect, Columns]:
    """The dialect of the text, and its columns; raises _Fault if there is none, or more than one."""
    plain, quoted = _Dialect(delimiter, quoted=False), _Dialect(delimiter, quoted=True)
    if '"' not in text:
        return plain, _parse(text, plain)
    if delimiter == ",":
        columns = _parse(text, quoted)
        # A row on several lines, where every line could be a row: was a quotation mark forgotten?
        if len(columns) > 1 and text.count("\n") >= len(columns[0]):
            _refuse_if_other(text, columns, plain)
        return quoted, columns
    try:
        as_plain = _parse(text, plain)
    except _Fault as fault:
        try:
            return quoted, _parse(text, quoted)
        except _Fault:
            raise fault from None
    try:
        as_quoted = _parse(text, quoted)
    except _Fault:
        return plain, as_plain
    _refuse_if_other(text, as_quoted, plain)
    _check_writer(text, as_plain, as_quoted)
    return quoted, as_quoted


def _reader(text: str, dialect: _Dialect) -> Any:
    csv.field_size_limit(sys.maxsize)
    # A lone '\r' ends a line only in a file that has no '\n'.
    stream = io.StringIO(text, newline="\n" if "\n" in text else "\r")
    if dialect.quoted:
        return csv.reader(stream, delimiter=dialect.delimiter, strict=True)
    return csv.reader(stream, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE)


def _parse(text: str, dialect: _Dialect) -> Columns:
    """The columns; blank lines do not count. Raises _Fault."""
    reader = _reader(text, dialect)
    columns: Columns = []
    try:
        # Not all rows at once: Python's garbage collector would visit each again and again.
        while lines := list(islice(reader, _CHUNK)):
            if not columns:
                lines = list(dropwhile(not_, lines))
            rows = list(filter(None, lines))
            columns = columns or [[] for _ in (rows or [[]])[0]]
            # In a file of one column a blank line may be meant as a row.
            if set(map(len, lines if len(columns) == 1 else rows)) - {len(columns)}:
                raise _first_fault(text, dialect)
            for column, values in zip(columns, zip(*rows, strict=True), strict=False):
                column.extend(values)
    except csv.Error:
        raise _first_fault(text, dialect) from None
    return columns


def _first_fault(text: str, dialect: _Dialect) -> _Fault:
    """What is wrong with the first row that is wrong. Slow, for what :func:`_parse` refuses."""
    reader, start, width = _reader(text, dialect), 1, 0
    try:
        for fields in reader:
            width = width or len(fields)
            if len(fields) != width and (fields or width == 1):
                break
            start = reader.line_num + 1
    except csv.Error as error:
        return _Fault(start, _words(str(error), reader.line_num))
    if not fields:
        return _Fault(start, 'is blank; an empty text is written as ""')
    shown = ", ".join(map(repr, fields))
    remedy = f"put a field that contains a {_NAMES[dialect.delimiter]} in quotation marks, or {_OTHERWISE}"
    return _Fault(
        start,
        f"has {len(fields)} fields, and the header has {width}: {shown[:200]}; {remedy}",
    )


def _words(error: str, line: int) -> str:
    if "expected after" in error:
        return (
            f"a quoted field that begins here has text after its closing quotation mark in line {line}; write a "
            f'quotation mark inside a quoted field twice (""), or {_OTHERWISE}'
        )
    if "end of data" in error:
        return f"a quoted field that begins here is never closed; close it, or {_OTHERWISE}"
    return "holds a carriage return outside of quotation marks, and other lines end otherwise"


def _numbered(text: str, dialect: _Dialect) -> Iterator[tuple[int, int]]:
    """(first line, last line) of the header and of every row."""
    reader, start = _reader(text, dialect), 1
    for fields in reader:
        if fields:
            yield start, reader.line_num
        start = reader.line_num + 1


def _line(text: str, dialect: _Dialect, number: int) -> int:
    return next(islice(_numbered(text, dialect), number, None))[0]


def _check_escapes(text: str, dialect: _Dialect) -> None:
    """Raise _Fault if quotation marks are escaped by backslashes, which would be read as text."""
    # In a quoted field the mark after a backslash is doubled, or ends the field.
    inside = re.compile(rf'\\"[^"{dialect.delimiter}\r\n]')
    escaped = inside.search(text) if dialect.quoted else None
    if escaped or (text.count('"') == text.count('\\"') > 0):
        line = text.count("\n", 0, escaped.start() if escaped else text.index('"')) + 1
        raise _Fault(
            line, f"has a backslash before a quotation mark, where this format has none; {_OTHERWISE}"
        )


def _refuse_if_other(text: str, quoted: Columns, plain: _Dialect) -> None:
    """Raise _Fault if the text has another number of rows when it is read as written."""
    try:
        rows = len(_parse(text, plain)[0])
    except _Fault:
        return
    if rows != len(quoted[0]):
        lines = _numbered(text, plain._replace(quoted=True))
        first, last = next((first, last) for first, last in lines if last > first)
        raise _Fault(
            first,
            f"the lines {first} to {last} may be one row with a quoted field, or a row each with a quotation mark "
            f"as text; {_OTHERWISE}",
        )


def _check_writer(text: str, plain: Columns, quoted: Columns) -> None:
    """Raise _Fault unless a writer that quotes would have written this: what must be, or all texts."""
    needless = [
        row
        for fields, values in zip(plain, quoted, strict=True)
        for row, (field, value) in enumerate(zip(fields, values, strict=True))
        if field != value and '"' not in value
    ]
    bare = (field for field in chain.from_iterable(plain) if not field.startswith('"'))
    if needless and not all(map(_NUMBER.fullmatch, bare)):
        raise _Fault(
            _line(text, _Dialect("\t", quoted=False), min(needless)),
            "a field stands in quotation marks, which may be text or quoting: some fields of the file "
            f"are quoted without need, and others are not; {_OTHERWISE}",
        )
