"""Where the names of points stand, so that none covers another name or point, nor a line if it can. Draws nothing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

# Pixels of the plot on a narrow page: on a wider one, points and names only move apart.
PLOT_WIDTH = 250
_LETTER, _LINE, _POINT = 5.8, 12.0, 6.0
_STEP = 4.0


@dataclass(frozen=True)
class Name:
    """A point and its name.

    Attributes:
        x, y: shares of the plot's width and height, from its lower left corner.
        line: which line goes through this point, from left to right; None: none does. These get their place first.
    """

    text: str
    x: float
    y: float
    line: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a name stands from its point, in pixels, as Vega-Lite has it."""

    align: Literal["left", "center", "right"]
    dx: float
    dy: float


PLACES = (
    Place("left", 9, 0),
    Place("right", -9, 0),
    Place("center", 0, -13),
    Place("center", 0, 13),
    Place("left", 6, -11),
    Place("left", 6, 11),
    Place("right", -6, -11),
    Place("right", -6, 11),
)
Box = tuple[float, float, float, float]


def place_names(names: Sequence[Name], height: float, all_names: bool = False) -> dict[Place, list[str]]:
    """Place -> the names that stand there.

    Args:
        height: of the plot, in pixels.
        all_names: whether a name without a free place stands above its point, not left out.
    """
    places: dict[Place, list[str]] = defaultdict(list)
    spots = [(PLOT_WIDTH * name.x, height * (1 - name.y)) for name in names]
    points = [(left - _POINT, top - _POINT, left + _POINT, top + _POINT) for left, top in spots]
    lines, taken = list(_lines(names, spots)), list[Box]()
    for index in sorted(range(len(names)), key=lambda each: names[each].line is None):
        others = [*taken, *(point for each, point in enumerate(points) if each != index)]
        boxes = list(_boxes(names[index].text, *spots[index]))
        # Rather on a line than nowhere.
        for place, box in [*((place, box) for place, box in boxes if _is_free(box, lines)), *boxes]:
            if _is_inside(box, height) and _is_free(box, others):
                places[place].append(names[index].text)
                taken.append(box)
                break
        else:
            if all_names:
                places[PLACES[2]].append(names[index].text)
    return dict(places)


def _lines(names: Sequence[Name], spots: Sequence[tuple[float, float]]) -> Iterator[Box]:
    """Small boxes along the lines."""
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, spot in zip(names, spots, strict=True):
        if name.line is not None:
            lines[name.line].append(spot)
    for line in lines.values():
        for one, other in pairwise(sorted(line)):
            count = math.ceil(math.dist(one, other) / _STEP)
            for part in range(1, count):
                left, top = (a + (b - a) * part / count for a, b in zip(one, other, strict=True))
                yield left - 1, top - 1, left + 1, top + 1


def _boxes(text: str, left: float, top: float) -> Iterator[tuple[Place, Box]]:
    width = _LETTER * len(text)
    before = {"left": 0.0, "center": width / 2, "right": width}
    for place in PLACES:
        start, middle = left + place.dx - before[place.align], top + place.dy
        yield place, (start, middle - _LINE / 2, start + width, middle + _LINE / 2)


def _is_inside(box: Box, height: float) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= PLOT_WIDTH and box[3] <= height


def _is_free(box: Box, others: Sequence[Box]) -> bool:
    return not any(_overlap(box, other) for other in others)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
