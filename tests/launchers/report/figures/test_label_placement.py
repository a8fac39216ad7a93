"""Rows that a figure shows can be told apart: by their labels, and by colour with shape or dash."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest

from launchers.report.figures.charts import MOST_CURVES
from launchers.report.figures.label_placement import PLOT_WIDTH, PointLabel, _boxes, _overlap, place_labels
from launchers.report.figures.style import COLOURS, DASHES, SHAPES, TALL, cycle


@pytest.mark.parametrize("seed", range(5))
def test_no_label_covers_another_label_or_point(seed: int) -> None:
    source = random.Random(seed)
    labels = [
        PointLabel(
            f"method-{n}", source.uniform(0.05, 0.95), source.uniform(0.05, 0.95), "" if n < 3 else None
        )
        for n in range(17)
    ]
    found = {text: anchor for anchor, texts in place_labels(labels, TALL).items() for text in texts}
    assert {"method-0", "method-1", "method-2"} <= set(found) and len(found) >= 10
    boxes, points = {}, {}
    for label in labels:
        left, top = PLOT_WIDTH * label.x, TALL * (1 - label.y)
        points[label.text] = (left, top, left, top)
        if label.text in found:
            boxes[label.text] = dict(_boxes(label.text, left, top))[found[label.text]]
    assert not [pair for pair in combinations(boxes.values(), 2) if _overlap(*pair)]
    assert not [
        text for text, box in boxes.items() for one in points if one != text and _overlap(box, points[one])
    ]


def test_equal_rows_get_one_label_at_most_per_place() -> None:
    found = place_labels([PointLabel(text, 0.5, 0.5) for text in "abcdefghij"], 280)
    assert len(found) > 2 and all(len(texts) == 1 for texts in found.values())


@pytest.mark.parametrize("marks", [SHAPES, DASHES])
def test_no_two_rows_share_colour_and_mark(marks: tuple[object, ...]) -> None:
    labels = [str(number) for number in range(MOST_CURVES)]
    pairs = list(zip(cycle(COLOURS, labels), map(str, cycle(marks, labels, 1)), strict=True))
    assert len(set(pairs)) == len(labels)
    assert all(one != other for one, other in pairwise(pair[0] for pair in pairs))


def test_no_label_is_on_the_line_through_its_point() -> None:
    labels = [PointLabel("left", 0.25, 0.5, "front"), PointLabel("right", 0.75, 0.5, "front")]
    found = {text: anchor for anchor, texts in place_labels(labels, TALL).items() for text in texts}
    assert (found["left"].align, found["right"].align) == ("right", "left")
