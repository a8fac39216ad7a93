"""Which settings of a race move on, from how they stand: pure functions.

Asynchronous successive halving (Li et al., *A System for Massively Parallel Hyperparameter Tuning*, MLSys 2020): a
setting need not wait until all others have reached its rung. Two things differ. Nobody moves on while a setting of the
field still waits for a place to train: no machine would be used better, and with more of them known the judgement
is better. And when no other setting can come to a rung any more, at least one moves on from it, so that a race has a
winner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TO_THE_END = math.inf


@dataclass(frozen=True)
class Entrant:
    """A setting in a race, with all its seeds.

    Attributes:
        scores: rung -> its validation there, percent, mean over seeds; only rungs that all its runs have reached.
        goal: the step that it may train to.
        waits: whether a run of it still waits for a place to train.
        out: why it cannot move on any more; '': it can.
    """

    scores: Mapping[int, float]
    goal: float
    waits: bool = False
    out: str = ""


def places(keep: float, settings: int, is_closed: bool) -> int:
    """How many of the settings at a rung move on.

    Args:
        settings: at the rung.
        is_closed: whether no other can come to it any more.
    """
    number = math.floor(keep * settings + 1e-9)  # 0.29 * 100 is 28.999...
    return max(1, number) if is_closed and settings else number


def promote(field: Sequence[Entrant], rungs: Sequence[int], keep: float) -> dict[int, float]:
    """The settings of a field that move on now: index -> the step that each may train to then.

    Args:
        field: all settings that race with each other, in the order of the sweep file. Of equal ones the first is
            better.
        rungs: steps, in order.
    """
    if any(one.waits and not one.out for one in field):
        return {}
    moves: dict[int, float] = {}
    is_closed = True
    for rung, following in zip(rungs, (*rungs[1:], TO_THE_END), strict=True):
        able = [index for index, one in enumerate(field) if not one.out]
        there = [index for index in able if rung in field[index].scores]
        is_closed = is_closed and all(
            rung in field[index].scores or field[index].goal < rung for index in able
        )
        # Rounded: means that only rounding sets apart are equal.
        best = sorted(there, key=lambda index: (-round(field[index].scores[rung], 9), index))
        new = [index for index in best[: places(keep, len(there), is_closed)] if field[index].goal <= rung]
        moves |= dict.fromkeys(new, following)
        is_closed = is_closed and not new
    return moves
