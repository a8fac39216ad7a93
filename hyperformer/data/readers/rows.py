"""Rows of a data set as columns of Python values. Every row knows its place in the file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from itertools import chain, islice
from typing import Any

from hyperformer.errors import DataError

_CHUNK = 10_000
_MOST_COLUMNS = 64


@dataclass(frozen=True)
class Rows:
    """The rows of one file, or of one split on the hub.

    Attributes:
        where: the file or data set, for messages.
        names: the columns, in order; a name may be there twice.
        count: how many rows.
        column: a column's name -> its values, None where there is none.
        place: a row's number -> where it is: 'train.csv, line 7'.
        originals: the rows as mappings, if that is what they were read as.
    """

    where: str
    names: Sequence[str]
    count: int
    column: Callable[[str], Sequence[Any]]
    place: Callable[[int], str]
    originals: Callable[[], Sequence[dict[str, Any]]] | None = None

    def records(self) -> Sequence[dict[str, Any]]:
        """The rows as mappings.

        Raises:
            DataError: two columns have the same name.
        """
        if self.originals is not None:
            return self.originals()
        for name in self.names:
            self.check_name(name)
        columns = [self.column(name) for name in self.names]
        return [dict(zip(self.names, values, strict=True)) for values in zip(*columns, strict=True)]

    def check_name(self, name: str) -> None:
        """See that only one column has this name."""
        if self.names.count(name) > 1:
            raise DataError(f"{self.where}: two columns are named {name!r}; rename one of them")


def record_rows(records: Sequence[dict[str, Any]], where: str, place: Callable[[int], str]) -> Rows:
    """Rows from mappings, which need not have the same keys."""
    names = list(dict.fromkeys(chain.from_iterable(records)))
    return Rows(
        where, names, len(records), lambda name: [row.get(name) for row in records], place, lambda: records
    )


def column_rows(
    read: Callable[[], Iterator[dict[str, Any]]], where: str, place: Callable[[int], str]
) -> Rows | None:
    """Rows from mappings that are read one at a time; only their columns are kept, in half the memory.

    Args:
        read: the mappings, and the same again when called again.

    Returns:
        None: one is not a mapping, or they have so many different keys that columns take more memory.
    """
    columns: dict[str, list[Any]] = {}
    count, rows = 0, read()
    while chunk := list(islice(rows, _CHUNK)):
        if set(map(type, chunk)) != {dict}:
            return None
        names = dict.fromkeys([*columns, *chain.from_iterable(chunk)])
        if len(names) > _MOST_COLUMNS:
            return None
        for name in names:
            columns.setdefault(name, [None] * count).extend([row.get(name) for row in chunk])
        count += len(chunk)
    return Rows(where, list(columns), count, columns.__getitem__, place, lambda: list(read()))


def table_rows(names: Sequence[str], count: int, read: Callable[[str], Any], where: str) -> Rows:
    """Rows of Arrow columns.

    Args:
        read: a column's name -> its Arrow array.
    """
    return Rows(
        where, names, count, lambda name: read(name).to_pylist(), lambda row: f"{where}, row {row} (from 0)"
    )


def texts(rows: Rows, field: str, *, missing: str | None = None) -> Sequence[str]:
    """The values of a field of a template as text, one for each row.

    Args:
        field: a column, or a part of one: 'text', 'translation[en]', 'endings[0]'.
        missing: replaces a value that is not there; None: that is an error.

    Raises:
        DataError: a value is missing, or is neither text nor a number; the message names its place.
    """
    values = _values(rows, field)
    types = set(map(type, values))
    if types <= {str}:
        return values
    if types <= {str, int, bool} or (types == {float} and all(map(math.isfinite, values))):
        return list(map(str, values))
    return [_text(rows, field, row, value, missing) for row, value in enumerate(values)]


def lists(rows: Rows, field: str) -> list[list[str] | None]:
    """The values of a field that holds a list of texts, one for each row; None where there is none.

    Raises:
        DataError: a value is something else; the message names its place.
    """
    found = _values(rows, field)
    for row, value in enumerate(found):
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if value is not None and not is_list:
            raise DataError(f"{rows.place(row)}: column {field!r} is {value!r:.60}, and not a list of texts")
    return list(found)


def _values(rows: Rows, field: str) -> Sequence[Any]:
    name, *parts = field.replace("]", "").split("[")
    rows.check_name(name)
    values = rows.column(name)
    for part in parts:
        values = [_part(value, part) for value in values]
    return values


def _part(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part)
    if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
        return value[int(part)]
    return None


def _text(rows: Rows, field: str, row: int, value: Any, missing: str | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        if missing is not None:
            return missing
        why = "has no value"
    elif isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            why = f"holds bytes that are not UTF-8 text ({value[:20]!r})"
    elif isinstance(value, float) and not math.isfinite(value):
        why = f"is {value}, which is not a finite number"
    elif isinstance(value, (str, int, float, Decimal, date, time)):
        return str(value)
    elif isinstance(value, (list, dict)):
        one = "[0]" if isinstance(value, list) else f"[{next(iter(value), 'name')}]"
        why = f"holds a {type(value).__name__}; name the part that is meant, such as {field}{one}"
    else:
        why = f"holds a {type(value).__name__}, which is neither text nor a number"
    raise DataError(f"{rows.place(row)}: column {field!r} {why}")
