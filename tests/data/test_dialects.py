"""Rows of any text, written in any dialect, are read as they were, or refused by file and line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hyperformer.data.readers.files import read_file
from hyperformer.errors import DataError

Table = list[list[str]]

TEXTS = st.text(st.sampled_from('"",\t\n\r;|\\ ab1é是\u2028\x0b'), max_size=8)
TABLES = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(TEXTS, min_size=width, max_size=width), min_size=1, max_size=6)
)
QUOTING = st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
SUFFIXES = st.sampled_from(["csv", "tsv"])
MANY = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(rows: Table, delimiter: str, quoting: int, end: str) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerow([f"c{number}" for number in range(len(rows[0]))])
    writer.writerows(rows)
    return stream.getvalue()


def read_back(path: Path) -> Table:
    found = read_file(path)
    return [list(row) for row in zip(*map(found.column, found.names), strict=True)]


def check(path: Path, rows: Table, may_refuse: Callable[[], bool]) -> None:
    try:
        found = read_back(path)
    except DataError as error:
        assert re.match(rf"{re.escape(str(path))}, line \d+: ", str(error))
        assert may_refuse(), error
        return
    assert found == rows


def is_a_table_without_quoting(text: str, delimiter: str) -> bool:
    lines = [line for line in text.split("\n") if line.strip("\r")]
    return len({line.count(delimiter) for line in lines}) == 1


@MANY
@given(
    rows=TABLES,
    quoting=QUOTING,
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    suffix=SUFFIXES,
)
def test_what_csv_writers_write(
    tmp_path: Path, rows: Table, quoting: int, end: str, encoding: str, suffix: str
) -> None:
    delimiter = "," if suffix == "csv" else "\t"
    if end == "\n":  # Python's writer leaves a lone '\r' without quotation marks
        rows = [[field.replace("\r", " ") for field in row] for row in rows]
    text = written(rows, delimiter, quoting, end)
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(text.encode(encoding))
    check(path, rows, lambda: is_a_table_without_quoting(text, delimiter))


@MANY
@given(
    rows=TABLES,
    quoting=st.sampled_from([csv.QUOTE_NONE, csv.QUOTE_MINIMAL]),
    suffix=SUFFIXES,
)
def test_escapes_are_never_read_as_text(tmp_path: Path, rows: Table, quoting: int, suffix: str) -> None:
    """Backslashes before what is special: no standard has them. (Such a mark at a field's very end is not seen.)"""
    rows = [[re.sub(r'[\\\n\r]|"$', " ", field) or " " for field in row] for row in rows]
    stream, path = io.StringIO(), tmp_path / f"x.{suffix}"
    delimiter = "," if suffix == "csv" else "\t"
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, escapechar="\\", doublequote=False)  # type: ignore[arg-type]
    writer.writerows([[f"c{number}" for number in range(len(rows[0]))], *rows])
    path.write_text(stream.getvalue(), newline="")
    check(path, rows, lambda: "\\" in stream.getvalue())


@MANY
@given(rows=TABLES)
def test_tsv_without_quoting(tmp_path: Path, rows: Table) -> None:
    rows = [[re.sub(r"[\t\n\r]", " ", field) for field in row] for row in rows]
    fields = [field for row in rows for field in row]
    # By convention this is quoted: a writer who does not quote has no reason to double them.
    assume(not any(re.fullmatch(r'"([^"]|"")*"', field) and '""' in field[1:-1] for field in fields))
    assume(len(rows[0]) > 1 or all(fields))
    path = tmp_path / "x.tsv"
    path.write_text("\n".join("\t".join(row) for row in [[f"c{n}" for n in range(len(rows[0]))], *rows]))
    check(path, rows, lambda: any(field.startswith('"') or '\\"' in field for field in fields))


@MANY
@given(rows=TABLES, escape=st.booleans(), suffix=st.sampled_from(["jsonl", "json"]), whole=st.booleans())
def test_json(tmp_path: Path, rows: Table, escape: bool, suffix: str, whole: bool) -> None:
    records = [{f"c{number}": field for number, field in enumerate(row)} for row in rows]
    lines = [json.dumps(record, ensure_ascii=escape) for record in records]
    text = json.dumps(records, indent=2) if whole and suffix == "json" else "\r\n".join(lines)
    path = tmp_path / f"x.{suffix}"
    path.write_text(text, encoding="utf-8")
    check(path, rows, lambda: False)


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_lines_of_rows(tmp_path: Path, suffix: str) -> None:
    path, delimiter = tmp_path / f"x.{suffix}", "," if suffix == "csv" else "\t"
    path.write_text(
        written([["a\nb", "1"], ["c", "2"], ["d\n\ne", "3"], ["f", "4"]], delimiter, csv.QUOTE_ALL, "\n")
    )
    rows = read_file(path)
    assert [rows.place(row) for row in range(4)] == [f"{path}, line {line}" for line in (2, 4, 5, 8)]
