"""Which files each rank opens at a resume, as a function of the number of ranks; and that nothing is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hyperformer.errors import CheckpointError
from hyperformer.training.checkpoints.saved_shards import SavedShards, ShardIndex, read_table, shard_key

SIZES = {"embedding": 64, "down": 640, "bias": 3, "up": 641, "head": 6400}


def shards(stage: int, rank: int, ranks: int) -> Iterator[tuple[str, int, int]]:
    """(parameter, start, count) of what a rank holds, as DeepSpeed divides it."""
    total = sum(SIZES.values())
    first, last = (total * each // ranks for each in (rank, rank + 1))
    place = 0
    for name, size in SIZES.items():
        if stage == 0:
            start, end = 0, size
        elif stage == 3:  # an equal part of each
            part = math.ceil(size / ranks)
            start, end = min(size, rank * part), min(size, (rank + 1) * part)
        else:  # an equal part of all in a row
            start, end = (min(size, max(0, edge - place)) for edge in (first, last))
        place += size
        if end > start:
            yield name, start, end - start


def index(stage: int, ranks: int) -> ShardIndex:
    writers = range(1 if stage == 0 else ranks)
    return ShardIndex(
        {
            f"part-{rank}": {
                shard_key(name, "weights", start): n for name, start, n in shards(stage, rank, ranks)
            }
            for rank in writers
        }
    )


@pytest.mark.parametrize("stage", [0, 1, 3])
@pytest.mark.parametrize("before", [1, 4, 16, 64])
@pytest.mark.parametrize("now", [1, 4, 16, 64])
def test_a_rank_opens_its_share_of_the_files(stage: int, before: int, now: int) -> None:
    found = index(stage, before)
    found.check(SIZES)
    opened = []
    for rank in range(now):
        pieces = shards(stage, rank, now)
        ranges = (each for name, start, n in pieces for each in found.ranges(name, "weights", start, n))
        opened.append(len({file for file, *_ in ranges}))
    if before == now or stage == 0:
        assert max(opened) == 1  # its own, or the only one
    elif stage == 1:
        assert max(opened) <= math.ceil(before / now) + 1
    else:  # parts of parameters of different sizes lie in different files
        assert sum(opened) <= 2 * (before + now)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    values = {name: torch.randn(size) for name, size in SIZES.items()}
    for rank in range(4):
        tensors = {
            shard_key(name, "weights", start): values[name][start : start + count].clone()
            for name, start, count in shards(1, rank, 4)
        }
        save_file(tensors | {shard_key("head", "step"): torch.tensor(7.0)}, tmp_path / f"part-{rank}")
    tables = {f"part-{rank}": read_table(tmp_path / f"part-{rank}") for rank in range(4)}
    for rank in range(3):
        saved = SavedShards(tmp_path, ShardIndex(tables), (rank, 3))
        for name, start, count in shards(1, rank, 3):
            assert torch.equal(saved.read(name, "weights", start, count), values[name][start : start + count])
        opened = set(saved.opened)
        assert saved.whole("head") == {"step": torch.tensor(7.0)} and set(saved.opened) == opened
    with pytest.raises(CheckpointError, match="weights of down is not all there"):
        saved.read("down", "weights", 600, 41)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"part-2": {}}, "weights of head has [0-9]+ elements of 6400"),
        ({"part-9": {shard_key("else", "weights", 0): 1}}, "else is one"),
        ({"part-9": {shard_key("bias", "exp_avg", 1): 2}}, "exp_avg of bias has 0 elements of 3"),
        ({"part-9": {shard_key("bias", "exp_avg", 0): 4}}, "exp_avg of bias has 4 elements of 3"),
    ],
)
def test_what_is_missing_is_seen(change: dict[str, dict[str, int]], told: str) -> None:
    tables = {
        f"part-{rank}": {shard_key(name, "weights", start): n for name, start, n in shards(1, rank, 4)}
        for rank in range(4)
    }
    ShardIndex(tables).check(SIZES)
    with pytest.raises(CheckpointError, match=told):
        ShardIndex({**tables, **change}).check(SIZES)
