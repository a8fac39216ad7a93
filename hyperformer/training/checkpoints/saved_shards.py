"""The shards in a checkpoint's tensor files: which elements are in which file, and reading them.

A rank opens the files that hold what it needs, and no other: its own, if the run resumes on as many
ranks as saved it; else those whose ranges overlap with its range.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from hyperformer.errors import CheckpointError

WEIGHTS = "weights"
Table = Mapping[str, int]
"""What is in a file: key -> number of elements."""


def shard_key(name: str, kind: str, start: int | None = None) -> str:
    """Key of a shard of a parameter's state: elements from `start` on, or what is saved once."""
    return f"{name}|{kind}" if start is None else f"{name}|{kind}|{start}"


def read_table(path: Path) -> dict[str, int]:
    """What is in a tensor file, by its header."""
    with safe_open(str(path), framework="pt") as file:
        return {key: math.prod(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


class ShardIndex:
    """Where each shard is, by parameter and kind (weights, moments).

    Args:
        tables: file name -> what is in it, in the order of the ranks that wrote them.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.flat: dict[str, dict[str, list[tuple[int, int, str]]]] = defaultdict(lambda: defaultdict(list))
        self.whole: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for file, table in tables.items():
            for key, count in table.items():
                name, kind, *start = key.split("|")
                if start:
                    self.flat[name][kind].append((int(start[0]), count, file))
                else:
                    self.whole[name][kind].append(file)
        for kinds in self.flat.values():
            for shards in kinds.values():
                shards.sort()

    def kinds(self, name: str) -> list[str]:
        """What is saved for each element of a parameter: weights, moments."""
        return list(self.flat[name])

    def count(self, name: str, kind: str) -> int:
        """Number of elements without a gap, from the first on."""
        place = 0
        for start, count, _ in self.flat[name][kind]:
            if start > place:
                break
            place = max(place, start + count)
        return place

    def check(self, trained: Mapping[str, int]) -> None:
        """Check that all of these parameters is there, and no other.

        Args:
            trained: parameter -> number of elements.

        Raises:
            CheckpointError: it is not.
        """
        if trained.keys() != self.flat.keys():
            other = sorted(trained.keys() ^ self.flat.keys())
            raise CheckpointError(
                f"it is of another model ({len(other)} parameters differ, {other[0]} is one)"
            )
        for name, expected in trained.items():
            for kind in {WEIGHTS, *self.kinds(name)}:
                found = self.count(name, kind)
                if found != expected:
                    raise CheckpointError(f"{kind} of {name} has {found} elements of {expected}")

    def ranges(self, name: str, kind: str, start: int, count: int) -> Iterator[tuple[str, str, int, int]]:
        """The (file, key, first, last + 1 within the shard) that make elements `start` to `start + count`.

        Raises:
            CheckpointError: some are missing.
        """
        place = start
        for begin, length, file in self.flat[name][kind]:
            if begin <= place < begin + length and place < start + count:
                stop = min(begin + length, start + count)
                yield file, shard_key(name, kind, begin), place - begin, stop - begin
                place = stop
        if place != start + count:
            raise CheckpointError(f"{kind} of {name} is not all there")


class SavedShards:
    """The shards of a checkpoint, for one of any number of ranks.

    Args:
        folder: of the checkpoint.
        share: this rank and the number of ranks: of files that hold the same, each rank reads another.

    Attributes:
        opened: the files that were opened, by name.
    """

    def __init__(self, folder: Path, index: ShardIndex, share: tuple[int, int] = (0, 1)) -> None:
        self.folder, self.index, self.share = folder, index, share
        self.opened: dict[str, Any] = {}

    def _file(self, name: str) -> Any:
        if name not in self.opened:
            self.opened[name] = safe_open(str(self.folder / name), framework="pt")
        return self.opened[name]

    def whole(self, name: str) -> dict[str, Tensor]:
        """What is saved once for a parameter (a count of steps)."""
        rank, ranks = self.share
        found = {}
        for kind, files in self.index.whole[name].items():
            nearest = files[rank * len(files) // ranks]
            file = next((file for file in files if file in self.opened), nearest)
            found[kind] = self._file(file).get_tensor(shard_key(name, kind))
        return found

    def read(self, name: str, kind: str, start: int, count: int) -> Tensor:
        """Elements `start` to `start + count` of a flattened parameter: shape (count,), on the CPU.

        Raises:
            CheckpointError: some are missing.
        """
        found = [
            self._file(file).get_slice(key)[first:end]
            for file, key, first, end in self.index.ranges(name, kind, start, count)
        ]
        return torch.cat(found) if found else torch.empty(0)
