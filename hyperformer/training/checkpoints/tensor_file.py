"""Tensors in safetensors files, written one at a time with a checksum.

The format is a JSON table and raw numbers; nothing in it can be executed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
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
