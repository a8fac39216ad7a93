"""Files of rows: JSON lines, JSON, CSV, TSV and parquet, each read by its own rules and checked."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

from hyperformer.data.readers.delimited import parse_delimited
from hyperformer.data.readers.json_rows import parse_json, parse_json_lines
from hyperformer.data.readers.rows import Rows, table_rows
from hyperformer.errors import DataError, describe_decode_error, line_of

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
TEXT_FORMATS: dict[str, Callable[[str, str], Rows]] = {
    "jsonl": parse_json_lines,
    "json": parse_json,
    "csv": lambda text, where: parse_delimited(text, where, ","),
    "tsv": lambda text, where: parse_delimited(text, where, "\t"),
}
"""Format -> function of (text, the file's name)."""
FORMATS = (*TEXT_FORMATS, "parquet")
"""What rows can be read from; also the suffixes of the files. All but parquet may end in '.gz' too."""
SUFFIXES = tuple(f".{form}" for form in FORMATS) + tuple(f".{form}.gz" for form in TEXT_FORMATS)


def format_of(path: Path) -> str | None:
    """The format that a file's name tells: 'csv' for rows.csv and rows.csv.gz; None if it tells none."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.removeprefix(".").lower()
    return suffix if suffix in FORMATS else None


def read_file(path: Path, form: str | None = None) -> Rows:
    """The rows of a file.

    Args:
        form: one of :data:`FORMATS`; default: what the file's name tells.

    Raises:
        DataError: it cannot be read or understood; the message names the file and the line.
    """
    form = form or format_of(path)
    if form == "parquet":
        return _read_parquet(path)
    return TEXT_FORMATS[form or ""](read_text(path), str(path))


def read_text(path: Path) -> str:
    """The content of a text file: UTF-8, or what its byte order mark says; '.gz' is unpacked.

    Raises:
        DataError: it cannot be read, or is not text.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return decode(content, str(path))


def decode(content: bytes, where: str) -> str:
    """Text from bytes; arguments and errors as of :func:`read_text`."""
    if content.startswith(b"\x1f\x8b"):
        raise DataError(f"{where}: is compressed by gzip: unpack it, or let its name end in .gz")
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}, line {line_of(error)}: {describe_decode_error(error)}") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{where}, line {line}: holds a NUL character; is it a text file, saved as UTF-8?")
    return text


def _read_parquet(path: Path) -> Rows:
    import pyarrow.parquet

    try:
        # Not read_table, which takes folder names such as 'label=1' for columns.
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{path}: cannot be read as parquet: {error}") from error

    def read(name: str) -> pyarrow.ChunkedArray:
        try:
            return file.read(columns=[name]).column(0)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: column {name!r} cannot be read: {error}") from error

    return table_rows(file.schema_arrow.names, file.metadata.num_rows, read, str(path))
