"""Files of rows: what each reader makes of a text, and what it refuses, by file and line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from hyperformer.data.readers import rows as rows_module
from hyperformer.data.readers.files import read_file
from hyperformer.errors import DataError

HEADER = "text,label\n"


def read(folder: Path, name: str, content: str | bytes) -> list[list[str]]:
    """The rows of a file, without the names."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [list(row.values()) for row in read_file(path).records()]


def fault(folder: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(DataError) as error:
        read(folder, name, content)
    return str(error.value).removeprefix(f"{folder}/")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("text,label\na,1\n", [["a", "1"]]),
        ("text,label\r\na,1\r\nb,0", [["a", "1"], ["b", "0"]]),
        ("text,label\ra,1\rb,0\r", [["a", "1"], ["b", "0"]]),
        ("\n\ntext,label\n\na,1\n\n\n", [["a", "1"]]),
        (b"\xef\xbb\xbftext,label\na,1\n", [["a", "1"]]),
        ("text,label\na,1\n".encode("utf-16"), [["a", "1"]]),
        ("text,label\na,1\n".encode("utf-32"), [["a", "1"]]),
        ('text,label\n"a, b",1\n"say ""no""",0\n', [["a, b", "1"], ['say "no"', "0"]]),
        ('text,label\n"a\nb",1\n"c\r\n",0\n', [["a\nb", "1"], ["c\r\n", "0"]]),
        ('text,label\n5" disk,1\n', [['5" disk', "1"]]),
        ("text,label\nNA,1\nnull,0\n,1\nNone,01\n", [["NA", "1"], ["null", "0"], ["", "1"], ["None", "01"]]),
        ("text,label\na\u2028b\x0bc\x85d,1\n", [["a\u2028b\x0bc\x85d", "1"]]),
        (HEADER + "x" * 3_000_000 + ",1\n", [["x" * 3_000_000, "1"]]),
        (HEADER + '"print(\\""hi\\"")",1\n"a, \\",0\n', [['print(\\"hi\\")', "1"], ["a, \\", "0"]]),
        ("text\na\n\"b, c\"\n\"d\ne\"\n\"\"\n", [["a"], ["b, c"], ["d\ne"], [""]]),
        (",text,label\n0,a,1\n1,b,0\n", [["0", "a", "1"], ["1", "b", "0"]]),  # pandas' index
        ("\n\ntext\na\nb\n", [["a"], ["b"]]),
        (HEADER, []),
        ("", []),
    ],
)  # fmt: skip
def test_csv(tmp_path: Path, content: str | bytes, rows: list[list[str]]) -> None:
    assert read(tmp_path, "x.csv", content) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "a,1\ngood, film,1\n", "line 3: has 3 fields, and the header has 2: 'good', ' film', '1'"),
        (HEADER + "a, film,1\nb, film,0\n", "line 2: has 3 fields"),
        (HEADER + "a,1,\nb,0,\n", "line 2: has 3 fields"),
        (HEADER + '"a\nb",1\n\ngood\n', "line 5: has 1 fields"),
        (HEADER + 'a,1\n"b"c,1\n', "line 3: a quoted field that begins here has text after its closing"),
        (HEADER + '"a\nb"c,1\n', "line 2: a quoted field that begins here has text after its closing quotation "
                                 "mark in line 3"),
        (HEADER + '"a\\"b",1\n', "line 2: a quoted field that begins here has text after"),
        (HEADER + 'a,1\nsay \\"no\\",1\n', "line 3: has a backslash before a quotation mark"),
        (HEADER + 'a,1\n"b,0\nc,1\n', "line 3: a quoted field that begins here is never closed"),
        (HEADER + '"I liked it,1\nfine,0\nhe said so",1\n', "line 2: the lines 2 to 4 may be one row"),
        (HEADER + "a\rb,1\n", "line 2: holds a carriage return"),
        (HEADER + "a\0b,1\n", "line 2: holds a NUL character"),
        ("text,label\na,1\n".encode("utf-16-le"), "line 1: holds a NUL character; is it a text file, saved as UTF-8"),
        ((HEADER + "b,0\ncafé,1\n").encode("latin-1"), "line 3: not UTF-8 text (invalid continuation byte, byte 0xe9)"),
        ("text;label\na;1\n", "line 1: the header is one field, 'text;label'; it seems to be separated by a semicolon"),
        ("text\tlabel\na\t1\n", "separated by a tab"),
        ("text\na\n\nb\n", "line 3: is blank"),
        ("text,text\na,b\n", "two columns are named 'text'"),
    ],
)  # fmt: skip
def test_csv_that_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert message in fault(tmp_path, "x.csv", content)


TSV = "text\tlabel\n"


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        # As it stands: quotation marks are text.
        ('it said "no"\t1\n', ['it said "no"']),
        ('a\t1\n"open\t1\nb\t0\n', ["a", '"open', "b"]),
        ('"open\t1\nhe said "no" twice\t0\n', ['"open', 'he said "no" twice']),
        ('"whole"\t1\n"open\t0\n', ['"whole"', '"open']),
        # Quoted: it makes no sense otherwise, or its writer quoted what must be, or all texts.
        ('"a\tb"\t1\n', ["a\tb"]),
        ('"a\nb"\t1\nc\t0\n', ["a\nb", "c"]),
        ('"say ""no"""\t1\nb\t0\n', ['say "no"', "b"]),
    ],
)
def test_tsv(tmp_path: Path, content: str, texts: list[str]) -> None:
    assert [row[0] for row in read(tmp_path, "x.tsv", TSV + content)] == texts


def test_tsv_whose_writer_quotes_all_texts(tmp_path: Path) -> None:
    assert read(tmp_path, "x.tsv", '"text"\t"label"\n"a"\t1\n"b"\t0.5\n') == [["a", "1"], ["b", "0.5"]]


def test_a_bare_quotation_mark_loses_no_row(tmp_path: Path) -> None:
    for at in range(20):
        texts = [f'"text {row}' if row == at else f"text {row}" for row in range(20)]
        rows = read(tmp_path, "x.tsv", TSV + "".join(f"{text}\t1\n" for text in texts))
        assert [row[0] for row in rows] == texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"I liked it\t1\nfine\t0\nhe said so"\t1\n', "line 2: the lines 2 to 4 may be one row"),
        ('a\t1\n"Great!"\t1\n', "line 3: a field stands in quotation marks, which may be text or quoting"),
        ("a\tb\t1\n", "line 2: has 3 fields, and the header has 2"),
        ("a\n", "line 2: has 1 fields"),
    ],
)
def test_tsv_that_is_refused(tmp_path: Path, content: str, message: str) -> None:
    assert message in fault(tmp_path, "x.tsv", TSV + content)


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    content = '{"a": "x"}\r\n\n{"b": 2, "a": "\u2028"}\n{"a": "\\ud83d\\ude00"}'
    assert read(tmp_path, name, content) == [["x"], [2, "\u2028"], ["😀"]]
    rows = read_file(tmp_path / name)
    assert (rows.names, rows.column("b")) == (["a", "b"], [None, 2, None])
    assert [rows.place(row)[-6:] for row in range(3)] == ["line 1", "line 3", "line 4"]


def test_a_json_list(tmp_path: Path) -> None:
    assert read(tmp_path, "x.json", ' [{"a": "x"},\n {"a": "y"} ]\n') == [["x"], ["y"]]
    assert read(tmp_path, "x.json", "[]") == []
    assert read_file(tmp_path / "x.json").count == 0
    read(tmp_path, "x.json", '[{"a": "x"},\n\n {"a":\n "y"}]')
    assert read_file(tmp_path / "x.json").place(1).endswith("line 3")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "not JSON"),
        ("[1, 2]", "wanted is one JSON object"),
        ('{"a": 1},', "not JSON: Extra data"),
        ('{"a": 1} {"a": 2}', "not JSON: Extra data"),
        ('{"a": NaN}', "NaN is not a JSON value"),
        ('{"a": -Infinity}', "-Infinity is not a JSON value"),
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"a": "\\ud83d"}', "half a surrogate pair (\\ud83d)"),
        ("{" + '"a": {' * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5_000 + "}", "Exceeds the limit"),
        ('{"a": "x', "not JSON"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, line: str, message: str) -> None:
    found = fault(tmp_path, "x.jsonl", '{"a": 1}\n\n' + line + '\n{"a": 1}\n')
    assert found.startswith("x.jsonl, line 3: ") and message in found
    found = fault(tmp_path, "x.json", '[{"a": 1},\n\n' + line + ',\n{"a": 1}]')
    assert found.startswith("x.json, line ")


@pytest.mark.parametrize(
    "content", ['[{"a": 1},]', '[{"a": 1} {"a": 2}]', '[{"a": 1}] x', '[{"a": 1}', "[,]", "["]
)
def test_json_lists_that_are_refused(tmp_path: Path, content: str) -> None:
    assert fault(tmp_path, "x.json", content).startswith("x.json, line 1: ")


def test_packed_files(tmp_path: Path) -> None:
    packed = gzip.compress(b"text,label\na,1\n")
    assert read(tmp_path, "x.csv.gz", packed) == [["a", "1"]]
    assert read(tmp_path, "x.jsonl.gz", gzip.compress(b'{"a": 1}')) == [[1]]
    for content in (packed[:-9], b"text,label\na,1\n", packed[:12] + b"xx" + packed[14:]):
        assert fault(tmp_path, "x.csv.gz", content).startswith("x.csv.gz: cannot be read")
    assert "x.csv: is compressed by gzip: unpack it" in fault(tmp_path, "x.csv", packed)


def test_what_is_no_parquet(tmp_path: Path) -> None:
    assert "x.parquet: cannot be read as parquet" in fault(tmp_path, "x.parquet", b"text,label\na,1\n")


@pytest.mark.parametrize("most", [2, 3])
def test_columns_and_records_are_the_same_however_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """As columns, a part of the rows at a time; or, if there are more columns than that, as mappings."""
    monkeypatch.setattr(rows_module, "_CHUNK", 2)
    monkeypatch.setattr(rows_module, "_MOST_COLUMNS", most)
    lines = ['{"a": 1}', '{"b": "x", "a": 2}', '{"a": 3}', "", '{"c": null, "a": 4}', '{"b": "y"}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    rows = read_file(tmp_path / "x.jsonl")
    assert (rows.names, rows.count, rows.place(4)[-6:]) == (["a", "b", "c"], 5, "line 6")
    assert [list(rows.column(name)) for name in rows.names] == [
        [1, 2, 3, 4, None], [None, "x", None, None, "y"], [None] * 5,
    ]  # fmt: skip
    assert rows.records() == [json.loads(line) for line in lines if line]
