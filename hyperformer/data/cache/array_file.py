"""Arrays in one file, read through a memory map::

3b7f00c1                                            CRC-32 of all that follows
{"facts": {...}, "arrays": [["sources", "<i4", 1200], ...]}
the arrays, end to end, each at a multiple of 8 bytes
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hyperformer.files import atomic_write, sweep_leftovers

Arrays = dict[str, np.ndarray]
_ALIGNED = 8
_BLOCK = 1 << 20


def keep_arrays(path: Path, facts: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """Write a file, and read it back; if it cannot be written, that is a warning.

    Processes that write one file at the same time must write the same: the last one's stays.

    Args:
        facts: plain values of JSON.
        arrays: of one dimension each.

    Returns:
        facts and arrays: in memory maps of the file, or as they came.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_leftovers(path.parent)
        with atomic_write(path, "wb") as stream:
            checksum = 0
            for part in _parts(facts, arrays):
                checksum = zlib.crc32(part, checksum)
            stream.write(f"{checksum:08x}\n".encode())
            for part in _parts(facts, arrays):
                stream.write(part)
    except OSError as error:
        warnings.warn(
            f"{path}: tokenised rows are not kept ({error.strerror or error}), so each start and each rank tokenises "
            "again. Free some space there, or set cache_dir to a folder that can be written",
            stacklevel=2,
        )
        return facts, arrays
    return read_arrays(path) or (facts, arrays)


def read_arrays(path: Path) -> tuple[dict[str, Any], Arrays] | None:
    """Facts and arrays of a file, in memory maps; None if there is none, or it is damaged, which is a warning."""
    try:
        with path.open("rb") as stream:
            told, checksum = stream.readline(_BLOCK), 0
            # Not through the map, whose pages would count as memory of the run.
            while block := stream.read(_BLOCK):
                checksum = zlib.crc32(block, checksum)
            if told != f"{checksum:08x}\n".encode():
                raise ValueError("its content is damaged")
            stream.seek(len(told))
            header, start = json.loads(stream.readline()), stream.tell()
            content = np.memmap(stream, np.uint8, "r")
        arrays = {}
        for name, kind, count in header["arrays"]:
            stop = start + count * np.dtype(kind).itemsize
            arrays[name] = content[start:stop].view(kind)
            start = stop + -stop % _ALIGNED
        if start != len(content):
            raise ValueError("its header is of another file")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        warnings.warn(f"{path}: not usable ({error}); tokenising again", stacklevel=2)
        return None
    return header["facts"], arrays


def _parts(facts: dict[str, Any], arrays: Arrays) -> Iterator[bytes | memoryview]:
    """What is in the file after its checksum."""
    told = {"facts": facts, "arrays": [[name, array.dtype.str, len(array)] for name, array in arrays.items()]}
    header = json.dumps(told)
    first = len("3b7f00c1\n") + len(header) + 1
    yield f"{header}{' ' * (-first % _ALIGNED)}\n".encode()
    for array in arrays.values():
        yield np.ascontiguousarray(array).data.cast("B") if len(array) else b""
        yield bytes(-array.nbytes % _ALIGNED)
