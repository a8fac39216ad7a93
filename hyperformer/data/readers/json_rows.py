"""Rows of JSON lines, and of a JSON list of objects.

Stricter than Python's reader: NaN and Infinity, keys given twice and half
surrogates are refused. Rows need not have the same keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from hyperformer.data.readers.rows import Rows, column_rows, record_rows
from hyperformer.errors import DataError

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_LINE = re.compile(r"[^\n]+")
_BLANK = re.compile(r"[ \t\r\n]*")
WANTED = 'wanted is one JSON object with the columns: {"sentence": ..., "label": ...}'


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value; leave the row out, or write null")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)


def parse_record(text: str) -> dict[str, Any]:
    """The JSON object of one line.

    Raises:
        ValueError: it is none; says why.
    """
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_record(value, text)
    return value


def _check_record(value: Any, text: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{WANTED}, not {text.strip()[:60]}")
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"half a surrogate pair (\\u{ord(error.object[error.start]):04x})") from None


def parse_json_lines(text: str, where: str) -> Rows:
    """The rows of JSON lines; blank lines do not count.

    Args:
        where: the file's name for errors.

    Raises:
        DataError: a line is not a JSON object; the message names it.
    """

    def place(row: int) -> str:
        return f"{where}, line {next(islice(_numbered(text), row, None))[0]}"

    try:
        # One C call for each line; on a fault, once more for its number.
        rows = column_rows(lambda: map(_DECODER.decode, _lines(text)), where, place)
        if rows and not _SURROGATE.search(text):
            return rows
    except (ValueError, RecursionError):
        pass
    records = []
    for number, line in _numbered(text):
        try:
            records.append(parse_record(line))
        except ValueError as error:
            raise DataError(f"{where}, line {number}: {error}") from error
    return record_rows(records, where, place)


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _lines(text: str) -> Iterator[str]:
    """The same lines, one at a time. Not splitlines: JSON strings may hold other line separators."""
    return filter(str.strip, (line.group() for line in _LINE.finditer(text)))


def parse_json(text: str, where: str) -> Rows:
    """The rows of a JSON list of objects; arguments and errors as of :func:`parse_json_lines`."""
    start = _skip_blanks(text, 0)
    if not text.startswith("[", start):
        # Many tools write JSON lines under this name.
        return parse_json_lines(text, where)

    def line(at: int) -> str:
        return f"{where}, line {text.count(chr(10), 0, at) + 1}"

    records, starts = [], []
    at = _skip_blanks(text, start + 1)
    while not text.startswith("]", at):
        try:
            value, end = _DECODER.raw_decode(text, at)
            _check_record(value, text[at:end])
        except (ValueError, RecursionError) as error:
            raise DataError(f"{line(getattr(error, 'pos', at))}: {error or 'nested too deeply'}") from error
        records.append(value)
        starts.append(at)
        at = _skip_blanks(text, end)
        if text.startswith(",", at) and not text.startswith("]", _skip_blanks(text, at + 1)):
            at = _skip_blanks(text, at + 1)
        elif not text.startswith("]", at):
            raise DataError(f"{line(at)}: not JSON: wanted is a comma and an object, or the end of the list")
    if text[at + 1 :].strip():
        raise DataError(f"{line(_skip_blanks(text, at + 1))}: there is text after the end of the list")
    return record_rows(records, where, lambda row: line(starts[row]))


def _skip_blanks(text: str, at: int) -> int:
    return _BLANK.match(text, at).end()  # type: ignore[union-attr]
