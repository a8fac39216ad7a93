"""The figures of a report as altair charts, each with a name and a caption. altair is imported when one is drawn.

Series differ in colour and in shape or dash, so that a print in grey and a colour-blind reader can tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launchers.report.figures.class_counts import Confusion
from launchers.report.figures.embeddings import EmbeddingMap
from launchers.report.figures.series import (
    Curve,
    TradeOff,
    hours_by_row,
    learning_curves,
    row_curves,
    trade_offs,
)
from launchers.report.report_data import ReportData

HEIGHT = 280
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


@dataclass(frozen=True)
class Figure:
    """A chart. `name`: its file name without ending; `spec`: Vega-Lite, as JSON data."""

    name: str
    title: str
    caption: str
    spec: dict[str, Any]


def figures(
    data: ReportData, maps: Sequence[EmbeddingMap] = (), confusions: Sequence[Confusion] = ()
) -> Iterator[Figure]:
    """Those figures of a report for which it has numbers."""
    curves = learning_curves(data)
    if curves:
        yield _learning(curves, "step", "training steps", "learning-steps", "Learning curves over steps")
    if any(point.hours is not None for curve in curves for point in curve.points):
        yield _learning(
            curves, "hours", "GPU-hours per seed", "learning-hours", "Learning curves over GPU-hours"
        )
    trades = trade_offs(data)
    if len(trades) > 1:
        yield _trade_off(trades)
    by_rows = row_curves(data)
    if by_rows:
        yield _by_rows(by_rows)
    hours = hours_by_row(data)
    if hours:
        yield _hours(hours)
    yield from (_embedding(each) for each in maps)
    yield from (_confusion(each) for each in confusions)


def _learning(curves: Sequence[Curve], x: str, title: str, name: str, heading: str) -> Figure:
    import altair as alt

    values = [
        {"row": curve.label, **asdict(point)}
        for curve in curves
        for point in curve.points
        if getattr(point, x) is not None
    ]
    labels = [curve.label for curve in curves]
    base = alt.Chart(alt.Data(values=values)).encode(x=alt.X(f"{x}:Q", title=title))
    shown = _tooltip(("row", "N"), ("step", "Q"), ("mean", "Q"), ("low", "Q"), ("high", "Q"), ("seeds", "Q"))
    line = base.mark_line(point=True).encode(
        y=_score("mean:Q"), color=_colour(labels), strokeDash=_dash(labels), tooltip=shown
    )
    caption = (
        "Average over columns on validation, percent. The line is the mean over seeds, the band goes from the "
        "lowest seed to the highest."
    )
    if x == "hours":
        caption += " The time of a run is spread evenly over its steps; on a CPU it is processor-hours."
    return Figure(name, heading, caption, _finish(line + _band(base, labels)))


def _trade_off(trades: Sequence[TradeOff]) -> Figure:
    import altair as alt

    labels = [each.label for each in trades]
    values = [{"row": each.label, **asdict(each)} for each in trades]
    base = alt.Chart(alt.Data(values=values))
    x = alt.X("percent_per_task:Q", title="trained per task, % of T5 (log)", scale=alt.Scale(type="log"))
    front = (
        base.transform_filter("datum.is_front")
        .mark_line(color="gray", strokeDash=[4, 4])
        .encode(x=x, y=_score("score:Q"), order="percent_per_task:Q")
    )
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=x,
        y=_score("score:Q"),
        color=_colour(labels),
        shape=alt.Shape("row:N", scale=alt.Scale(domain=labels, range=_cycle(SHAPES, labels)), title=None),
        tooltip=_tooltip(("row", "N"), ("percent_per_task", "Q"), ("score", "Q")),
    )
    caption = "What a method trains against its average over columns. The dashed line is the Pareto front."
    return Figure("trained-score", "Trained parameters and score", caption, _finish(front + points))


def _by_rows(curves: Mapping[str, Sequence[tuple[int, float, float | None]]]) -> Figure:
    import altair as alt

    values = [
        {"row": label, "rows": rows, "mean": mean, "low": mean - (std or 0), "high": mean + (std or 0)}
        for label, points in curves.items()
        for rows, mean, std in points
    ]
    labels = list(curves)
    x = alt.X("rows:Q", title="training rows per task (log)", scale=alt.Scale(type="log"))
    base = alt.Chart(alt.Data(values=values)).encode(x=x)
    line = base.mark_line(point=True).encode(
        y=_score("mean:Q"),
        color=_colour(labels),
        strokeDash=_dash(labels),
        tooltip=_tooltip(("row", "N"), ("rows", "Q"), ("mean", "Q")),
    )
    caption = (
        "Average over columns by the number of training rows per task: mean and standard deviation of seeds."
    )
    return Figure("training-rows", "Few training rows", caption, _finish(line + _band(base, labels)))


def _hours(hours: Mapping[str, float]) -> Figure:
    import altair as alt

    values = [{"row": label, "hours": value} for label, value in hours.items()]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(color=COLOURS[0])
        .encode(
            x=alt.X("hours:Q", title="GPU-hours"),
            y=alt.Y("row:N", title=None, sort=None, axis=alt.Axis(labelLimit=260)),
            tooltip=_tooltip(("row", "N"), ("hours", "Q")),
        )
    )
    caption = "GPU-hours of all seeds and tasks that have a result, all attempts; on a CPU processor-hours."
    return Figure("gpu-hours", "GPU-hours by row", caption, _finish(chart, 24 * len(values) + 20))


def _embedding(found: EmbeddingMap) -> Figure:
    import altair as alt

    values = [{"task": task, "x": x, "y": y} for task, (x, y) in zip(found.tasks, found.points, strict=True)]
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("x:Q", title=f"first component ({found.explained[0]:.0%} of variance)", scale=_roomy()),
        y=alt.Y("y:Q", title=f"second component ({found.explained[1]:.0%})", scale=_roomy()),
    )
    points = base.mark_point(filled=True, size=90, opacity=1, color=COLOURS[0]).encode(tooltip="task:N")
    names = base.mark_text(dy=-12).encode(text="task:N")
    caption = "The task embeddings that the hypernetwork reads, in two dimensions (principal components)."
    return Figure(
        f"embeddings-{found.run}", f"Task embeddings of {found.run}", caption, _finish(points + names)
    )


def _confusion(found: Confusion) -> Figure:
    import altair as alt

    values = [
        {"target": target, "answer": answer, "rows": count, "share": count / max(1, sum(line))}
        for target, line in zip(found.classes, found.counts, strict=True)
        for answer, count in zip(found.classes, line, strict=True)
        if any(line)
    ]
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("answer:N", sort=None, title="answer"), y=alt.Y("target:N", sort=None, title="target")
    )
    cells = base.mark_rect().encode(
        color=alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), title="share of target"),
        tooltip=_tooltip(("target", "N"), ("answer", "N"), ("rows", "Q")),
    )
    counts = base.mark_text().encode(
        text="rows:Q", color=alt.condition("datum.share > 0.5", alt.value("white"), alt.value("black"))
    )
    caption = f"Answers of {found.run} to the {found.split} rows of {found.task}."
    return Figure(
        f"confusion-{found.run}-{found.task}", f"Confusion: {found.task}", caption, _finish(cells + counts)
    )


def _band(base: Any, labels: Sequence[str]) -> Any:
    """From `low` to `high`, without a legend: the line's has all."""
    return base.mark_area(opacity=0.18).encode(
        y=_score("low:Q"), y2="high:Q", color=_colour(labels), strokeDash=_dash(labels)
    )


def _score(field: str) -> Any:
    import altair as alt

    return alt.Y(field, title="average over columns, %", scale=alt.Scale(zero=False))


def _colour(labels: Sequence[str]) -> Any:
    import altair as alt

    legend = alt.Legend(
        orient="bottom", columns=2, labelLimit=320, symbolLimit=40, symbolOpacity=1, symbolSize=200
    )
    scale = alt.Scale(domain=list(labels), range=_cycle(COLOURS, labels))
    return alt.Color("row:N", scale=scale, legend=legend, title=None)


def _dash(labels: Sequence[str]) -> Any:
    import altair as alt

    return alt.StrokeDash(
        "row:N", scale=alt.Scale(domain=list(labels), range=_cycle(DASHES, labels)), title=None
    )


def _roomy() -> Any:
    """A scale with room for the names beside the outermost points."""
    import altair as alt

    return alt.Scale(zero=False, padding=45)


def _cycle(values: Sequence[Any], labels: Sequence[str]) -> list[Any]:
    return [values[index % len(values)] for index in range(len(labels))]


def _tooltip(*fields: tuple[str, str]) -> list[Any]:
    import altair as alt

    return [
        alt.Tooltip(f"{name}:{kind}", format=".4~g") if kind == "Q" else alt.Tooltip(f"{name}:{kind}")
        for name, kind in fields
    ]


def _finish(chart: Any, height: int = HEIGHT) -> dict[str, Any]:
    return chart.properties(width="container", height=height).to_dict()
