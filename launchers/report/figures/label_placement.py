"""Where the labels of points go, so that none covers another label or point, nor a line if it can. Draws nothing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

# Pixels of the plot on a narrow page: on a wider one, points and labels only move apart.
PLOT_WIDTH = 250
_LETTER, _LINE, _POINT = 5.8, 12.0, 6.0
_STEP = 4.0


@dataclass(frozen=True)
class PointLabel:
    """A point and its label.

    Attributes:
        x, y: shares of the plot's width and height, from its lower left corner.
        line: the line that goes through this point, from left to right; None: none does. These get their place first.
    """

    text: str
    x: float
    y: float
    line: str | None = None


@dataclass(frozen=True)
class Anchor:
    """Where a label is from its point, in pixels, as Vega-Lite has it."""

    align: Literal["left", "center", "right"]
    dx: float
    dy: float


ANCHORS = (
    Anchor("left", 9, 0),
    Anchor("right", -9, 0),
    Anchor("center", 0, -13),
    Anchor("center", 0, 13),
    Anchor("left", 6, -11),
    Anchor("left", 6, 11),
    Anchor("right", -6, -11),
    Anchor("right", -6, 11),
)
Box = tuple[float, float, float, float]


def place_labels(
    labels: Sequence[PointLabel], height: float, all_labels: bool = False
) -> dict[Anchor, list[str]]:
    """Anchor -> the labels that are there.

    Args:
        height: of the plot, in pixels.
        all_labels: whether a label without a free place is put above its point, and not left out.
    """
    placed: dict[Anchor, list[str]] = defaultdict(list)
    spots = [(PLOT_WIDTH * label.x, height * (1 - label.y)) for label in labels]
    points = [(left - _POINT, top - _POINT, left + _POINT, top + _POINT) for left, top in spots]
    lines, taken = list(_lines(labels, spots)), list[Box]()
    for index in sorted(range(len(labels)), key=lambda each: labels[each].line is None):
        others = [*taken, *(point for each, point in enumerate(points) if each != index)]
        boxes = list(_boxes(labels[index].text, *spots[index]))
        # Rather on a line than nowhere.
        for anchor, box in [*((anchor, box) for anchor, box in boxes if _is_free(box, lines)), *boxes]:
            if _is_inside(box, height) and _is_free(box, others):
                placed[anchor].append(labels[index].text)
                taken.append(box)
                break
        else:
            if all_labels:
                placed[ANCHORS[2]].append(labels[index].text)
    return dict(placed)


def _lines(labels: Sequence[PointLabel], spots: Sequence[tuple[float, float]]) -> Iterator[Box]:
    """Small boxes along the lines."""
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for label, spot in zip(labels, spots, strict=True):
        if label.line is not None:
            lines[label.line].append(spot)
    for line in lines.values():
        for one, other in pairwise(sorted(line)):
            count = math.ceil(math.dist(one, other) / _STEP)
            for part in range(1, count):
                left, top = (a + (b - a) * part / count for a, b in zip(one, other, strict=True))
                yield left - 1, top - 1, left + 1, top + 1


def _boxes(text: str, left: float, top: float) -> Iterator[tuple[Anchor, Box]]:
    width = _LETTER * len(text)
    before = {"left": 0.0, "center": width / 2, "right": width}
    for anchor in ANCHORS:
        start, middle = left + anchor.dx - before[anchor.align], top + anchor.dy
        yield anchor, (start, middle - _LINE / 2, start + width, middle + _LINE / 2)


def _is_inside(box: Box, height: float) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= PLOT_WIDTH and box[3] <= height


def _is_free(box: Box, others: Sequence[Box]) -> bool:
    return not any(_overlap(box, other) for other in others)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
