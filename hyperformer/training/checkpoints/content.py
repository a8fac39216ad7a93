"""What is in a checkpoint, read by every rank: its own part of it, and what all need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.run_files.checkpoint_folder import Manifest
from hyperformer.training.checkpoints.saved_shards import SavedShards, ShardIndex, read_table
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.train_state import RankState, TrainState


@dataclass(frozen=True)
class Content:
    """What was read.

    Attributes:
        mine: what the rank of this number had saved; None: there was no such rank.
        loss: sum of this rank's losses since the last line.
        counters: of the engine.
    """

    state: TrainState
    mine: RankState | None
    loss: float
    counters: dict[str, Any]
    shards: SavedShards


def read_content(
    path: Path, manifest: Manifest, trained: dict[str, int], context: DistributedContext
) -> Content:
    """Read a checkpoint and check it against the model. Every rank calls this; it changes nothing.

    Args:
        trained: of the model now: parameter -> number of elements.

    Raises:
        CheckpointError, or any error for content that was made by hand; on every rank.
    """
    progress = context.on_main(lambda: json.loads((path / "progress.json").read_text(encoding="utf-8")))
    parts = sorted((file for file in manifest.files if file.endswith(".safetensors")), key=_number)
    states = range(context.rank, manifest.world_size, context.size)

    def read_share() -> tuple[dict[str, dict[str, int]], dict[int, RankState]]:
        """Of all files' headers and all ranks' states, the share of this rank."""
        tables = {file: read_table(path / file) for file in parts[context.rank :: context.size]}
        return tables, {number: _rank_state(path, number) for number in states}

    tables, found = context.on_each(read_share)
    shared = context.gather((tables, {number: state.loss for number, state in found.items()}))
    merged = {file: table for each, _ in shared for file, table in each.items()}
    losses = {number: loss for _, each in shared for number, loss in each.items()}
    index = ShardIndex({file: merged[file] for file in parts})

    def check() -> tuple[TrainState, dict[str, Any]]:
        index.check(trained)
        return TrainState(**progress["progress"]), progress["engine"]

    state, counters = context.on_each(check)
    shards = SavedShards(path, index, (context.rank, context.size))
    return Content(state, found.get(context.rank), _loss(losses, context), counters, shards)


def _number(file: str) -> int:
    """Of the rank that wrote ``part-<rank>.safetensors``."""
    return int(file.partition("-")[2].partition(".")[0])


def _rank_state(path: Path, number: int) -> RankState:
    return RankState(**json.loads((path / f"random-{number}.json").read_text()))


def _loss(losses: dict[int, float], context: DistributedContext) -> float:
    """Of this rank, since the last line; a line has the mean over the ranks."""
    if len(losses) == context.size:
        return losses[context.rank]
    total = sum(losses[number] for number in sorted(losses))
    return total * context.size / len(losses) if context.is_main else 0.0
