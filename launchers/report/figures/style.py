"""What the figures of a report have in common: sizes, colours, shapes, scales. altair is imported when one is drawn.

Series differ in colour and in shape or dash, so that a print in grey and a colour-blind reader can tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

HEIGHT, TALL = 280, 380
AVERAGE_TITLE = "average over columns, %"
# Okabe and Ito's colours, without yellow: they differ for colour-blind readers, on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C8C8C", "#7E57C2")
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-left",
    "triangle-right",
)
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [12, 4], [4, 1], [1, 3], [10, 3, 3, 3])


def score(field: str, scale: Any = None, title: str = AVERAGE_TITLE) -> Any:
    import altair as alt

    return alt.Y(field, title=title, scale=scale or alt.Scale(zero=False))


def few_ticks() -> Any:
    """Ticks whose labels do not run into each other on a narrow page."""
    import altair as alt

    return alt.Axis(labelOverlap="greedy", labelSeparation=6)


def level(texts: Sequence[str]) -> Any:
    """An axis of categories, its labels level as long as they are short."""
    import altair as alt

    return alt.Axis(labelAngle=0) if max(map(len, texts), default=0) < 6 else alt.Undefined


def colour(labels: Sequence[str], symbol: str | None = None) -> Any:
    """`symbol`: what the legend shows of each label; None: its mark."""
    import altair as alt

    drawn = (
        {"symbolType": symbol, "symbolSize": 600, "symbolStrokeWidth": 2} if symbol else {"symbolSize": 110}
    )
    legend = alt.Legend(orient="bottom", labelLimit=320, symbolLimit=40, symbolOpacity=1, **drawn)
    scale = alt.Scale(domain=list(labels), range=cycle(COLOURS, labels))
    return alt.Color("row:N", scale=scale, legend=legend, title=None)


def dash(labels: Sequence[str]) -> Any:
    import altair as alt

    return alt.StrokeDash(
        "row:N", scale=alt.Scale(domain=list(labels), range=cycle(DASHES, labels, 1)), title=None
    )


def cycle(values: Sequence[Any], labels: Sequence[str], shift: int = 0) -> list[Any]:
    """A value for each label; each round starts `shift` later, so that no colour meets its shape again."""
    return [values[(index + shift * (index // len(values))) % len(values)] for index in range(len(labels))]


def tooltip(*fields: tuple[str, str]) -> list[Any]:
    import altair as alt

    return [
        alt.Tooltip(f"{name}:{kind}", format=".4~g") if kind == "Q" else alt.Tooltip(f"{name}:{kind}")
        for name, kind in fields
    ]


def finish(chart: Any, height: int = HEIGHT) -> dict[str, Any]:
    return chart.properties(width="container", height=height).to_dict()
