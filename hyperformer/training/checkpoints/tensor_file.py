"""Tensors in safetensors files: written one at a time with a checksum, read by ranges.

The format is a JSON table and raw numbers; nothing in it can be executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from hyperformer.errors import CheckpointError
from hyperformer.run_files.checkpoint_folder import checksum

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Sequence[tuple[str, Tensor]]) -> list[Any]:
    """Write a safetensors file, flush it to the disk, and read it back.

    One tensor at a time passes through the host's memory.

    Args:
        tensors: unique keys, and tensors on any device.

    Returns:
        [bytes, checksum] as a manifest has them.

    Raises:
        OSError: the file could not be written.
        CheckpointError: what was read back is not what was written.
    """
    table: dict[str, Any] = {}
    end = 0
    for key, tensor in tensors:
        start, end = end, end + tensor.numel() * tensor.element_size()
        table[key] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)

    def chunks() -> Iterator[Any]:
        yield len(header).to_bytes(8, "little") + header
        for _, tensor in tensors:
            yield tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()

    return write_checked(path, chunks)


def write_checked(path: Path, chunks: Callable[[], Iterable[Any]]) -> list[Any]:
    """Write chunks of bytes; returns and raises as :func:`write_tensors` does."""
    digest, size = hashlib.blake2b(digest_size=16), 0
    with path.open("wb") as stream:
        for chunk in chunks():
            stream.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        stream.flush()
        os.fsync(stream.fileno())
    if checksum(path) != digest.hexdigest():
        raise CheckpointError(f"{path.name} does not read back as it was written: the disk is failing")
    return [size, digest.hexdigest()]


def shard_key(name: str, kind: str, start: int | None = None) -> str:
    """Key of a shard of a parameter's state: elements from `start` on, or what is saved once."""
    return f"{name}|{kind}" if start is None else f"{name}|{kind}|{start}"


class SavedShards:
    """The shards in all ranks' files, for any number of ranks now."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [safe_open(str(path), framework="pt") for path in files]
        self._flat: dict[tuple[str, str], list[tuple[int, Any, str]]] = defaultdict(list)
        self._whole: dict[tuple[str, str], tuple[Any, str]] = {}
        for file in self._files:
            for key in file.keys():  # noqa: SIM118 (a file is no dict)
                name, kind, *start = key.split("|")
                if start:
                    self._flat[name, kind].append((int(start[0]), file, key))
                else:
                    self._whole[name, kind] = (file, key)
        for shards in self._flat.values():
            shards.sort(key=lambda shard: shard[0])

    def names(self) -> set[str]:
        """The parameters that have shards."""
        return {name for name, _ in self._flat}

    def kinds(self, name: str) -> list[str]:
        """What is saved for each element of a parameter: weights, moments."""
        return [kind for other, kind in self._flat if other == name]

    def whole(self, name: str) -> dict[str, Tensor]:
        """What is saved once for a parameter (a count of steps)."""
        return {k: file.get_tensor(key) for (n, k), (file, key) in self._whole.items() if n == name}

    def count(self, name: str, kind: str) -> int:
        """Number of elements without a gap, from the first on."""
        place = 0
        for start, file, key in self._flat.get((name, kind), ()):
            if start > place:
                break
            place = max(place, start + math.prod(file.get_slice(key).get_shape()))
        return place

    def read(self, name: str, kind: str, start: int, count: int) -> Tensor:
        """Elements `start` to `start + count` of a flattened parameter: shape (count,), on the CPU.

        Raises:
            CheckpointError: some are missing.
        """
        found, place = [], start
        for begin, file, key in self._flat[name, kind]:
            shard = file.get_slice(key)
            end = begin + shard.get_shape()[0]
            if begin <= place < end and place < start + count:
                stop = min(end, start + count)
                found.append(shard[place - begin : stop - begin])
                place = stop
        if place != start + count:
            raise CheckpointError(f"{kind} of {name} is not all there")
        return torch.cat(found) if found else torch.empty(0)
