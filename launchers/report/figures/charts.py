"""The figures of a report as altair charts, each with a name and a caption. altair is imported when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from launchers.report.figures.class_counts import Confusion
from launchers.report.figures.embeddings import EmbeddingMap
from launchers.report.figures.label_placement import PointLabel, place_labels
from launchers.report.figures.series import (
    Curve,
    RowCurves,
    TradeOff,
    hours_by_row,
    learning_curves,
    row_curves,
    trade_offs,
)
from launchers.report.figures.style import (
    AVERAGE_TITLE,
    COLOURS,
    HEIGHT,
    SHAPES,
    TALL,
    colour,
    cycle,
    dash,
    few_ticks,
    finish,
    level,
    score,
    tooltip,
)
from launchers.report.report_data import ReportData

_MOST_BANDS = 6
"""Curves with a band: more bands cover each other."""
MOST_CURVES = 24
"""In one figure: more cannot be told apart."""


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
    yield from (_by_rows(task, found) for task, found in row_curves(data).items())
    hours = hours_by_row(data)
    if hours:
        yield _hours(hours)
    yield from (_embedding(each) for each in maps)
    yield from (_confusion(each) for each in confusions)


def _learning(curves: Sequence[Curve], x: str, title: str, name: str, heading: str) -> Figure:
    import altair as alt

    best = sorted(curves, key=lambda curve: -curve.points[-1].mean)[:MOST_CURVES]
    shown = [curve for curve in curves if curve in best]
    values = [
        {"row": curve.label, **asdict(point)}
        for curve in shown
        for point in curve.points
        if getattr(point, x) is not None
    ]
    base = alt.Chart(alt.Data(values=values)).encode(x=alt.X(f"{x}:Q", title=title, axis=few_ticks()))
    told = tooltip(("row", "N"), ("step", "Q"), ("mean", "Q"), ("low", "Q"), ("high", "Q"), ("seeds", "Q"))
    chart, band = _curves(base, [curve.label for curve in shown], told)
    caption = "Average over columns on validation, percent. The line is the mean over seeds"
    caption += ", the band goes from the lowest seed to the highest." if band else "."
    if len(shown) < len(curves):
        caption += f" Only the {len(shown)} of {len(curves)} rows that end highest are drawn."
    if x == "hours":
        caption += " The time of a run is spread evenly over its steps; on a CPU it is processor-hours."
    return Figure(name, heading, caption, finish(chart))


def _trade_off(trades: Sequence[TradeOff]) -> Figure:
    import altair as alt

    labels = [each.label for each in trades]
    shares, scores = [each.percent_per_task for each in trades], [each.score for each in trades]
    room = 0.1 * (max(scores) - min(scores)) or 1.0
    left, right = min(shares) / 2, max(shares) * 2
    low, high = min(scores) - room, max(scores) + room
    values = [{"row": each.label, **asdict(each)} for each in trades]
    x = alt.X(
        "percent_per_task:Q",
        title="trained per task, % of T5 (log)",
        scale=alt.Scale(type="log", domain=[left, right], nice=False),
        axis=few_ticks(),
    )
    scale = alt.Scale(domain=[low, high], nice=False)
    base = alt.Chart(alt.Data(values=values)).encode(x=x, y=score("score:Q", scale))
    front = (
        base.transform_filter("datum.is_front")
        .mark_line(color="gray", strokeDash=[4, 4])
        .encode(order="percent_per_task:Q", detail="block:N")
    )
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        color=colour(labels),
        shape=alt.Shape("row:N", scale=alt.Scale(domain=labels, range=cycle(SHAPES, labels, 1)), title=None),
        tooltip=tooltip(("row", "N"), ("percent_per_task", "Q"), ("score", "Q")),
    )
    point_labels = [
        PointLabel(
            each.label,
            math.log(each.percent_per_task / left) / math.log(right / left),
            (each.score - low) / (high - low),
            each.block if each.is_front else None,
        )
        for each in trades
    ]
    texts = _label_layers(base, "row", point_labels, TALL)
    caption = "What a method trains against its average over columns. The dashed line is the Pareto front: "
    caption += "no other row trains less and scores as well"
    caption += ", of those that are compared." if len({each.block for each in trades}) > 1 else "."
    spec = finish(alt.layer(front, points, *texts), TALL)
    return Figure("trained-score", "Trained parameters and score", caption, spec)


def _by_rows(task: str, curves: RowCurves) -> Figure:
    import altair as alt

    values = [
        {"row": label, "rows": rows, "mean": mean, "low": mean - (std or 0), "high": mean + (std or 0)}
        for label, points in curves.items()
        for rows, mean, std in points
    ]
    x = alt.X(
        "rows:Q",
        title="training rows per task (log)",
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=few_ticks(),
    )
    base = alt.Chart(alt.Data(values=values)).encode(x=x)
    told = tooltip(("row", "N"), ("rows", "Q"), ("mean", "Q"))
    chart, band = _curves(base, list(curves), told, f"{task}, %" if task else AVERAGE_TITLE)
    what = f"{task}, the mean of its metrics," if task else "Average over columns"
    caption = f"{what} by the number of training rows per task: mean of seeds"
    caption += ", and a band of one standard deviation." if band else "."
    name, title = (f"-{task}", f": {task}") if task else ("", "")
    return Figure(f"training-rows{name}", f"Few training rows{title}", caption, finish(chart))


def _hours(hours: Mapping[str, float]) -> Figure:
    import altair as alt

    values = [{"row": label, "hours": value} for label, value in hours.items()]
    chart = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(color=COLOURS[0])
        .encode(
            x=alt.X("hours:Q", title="GPU-hours"),
            y=alt.Y("row:N", title=None, sort=None, axis=alt.Axis(labelLimit=260)),
            tooltip=tooltip(("row", "N"), ("hours", "Q")),
        )
    )
    caption = "GPU-hours of all seeds and tasks that have a result, all attempts; on a CPU processor-hours."
    return Figure("gpu-hours", "GPU-hours by row", caption, finish(chart, 24 * len(values) + 20))


def _embedding(found: EmbeddingMap) -> Figure:
    import altair as alt

    values = [{"task": task, "x": x, "y": y} for task, (x, y) in zip(found.tasks, found.points, strict=True)]
    # Both axes have one scale, so that distances are true: a component of no variance is a line.
    most = 1.3 * max(abs(number) for point in found.points for number in point)
    scale = alt.Scale(domain=[-most, most], nice=False)
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("x:Q", title=f"first component ({found.explained[0]:.0%} of variance)", scale=scale),
        y=alt.Y("y:Q", title=f"second component ({found.explained[1]:.0%})", scale=scale),
    )
    points = base.mark_point(filled=True, size=90, opacity=1, color=COLOURS[0]).encode(tooltip="task:N")
    places = [((x / most + 1) / 2, (y / most + 1) / 2) for x, y in found.points]
    point_labels = [PointLabel(task, *place) for task, place in zip(found.tasks, places, strict=True)]
    caption = "The task embeddings that the hypernetwork reads, in two dimensions (principal components)."
    spec = finish(alt.layer(points, *_label_layers(base, "task", point_labels, HEIGHT, all_labels=True)))
    return Figure(f"embeddings-{found.run}", f"Task embeddings of {found.run}", caption, spec)


def _label_layers(
    base: Any, field: str, labels: Sequence[PointLabel], height: int, all_labels: bool = False
) -> list[Any]:
    """The labels as text; see :func:`place_labels`."""
    import altair as alt

    return [
        base.transform_filter(alt.FieldOneOfPredicate(field, placed))
        .mark_text(align=anchor.align, dx=anchor.dx, dy=anchor.dy)
        .encode(text=f"{field}:N")
        for anchor, placed in place_labels(labels, height, all_labels).items()
    ]


def _confusion(found: Confusion) -> Figure:
    import altair as alt

    values = [
        {"target": target, "answer": answer, "rows": count, "share": count / max(1, sum(line))}
        for target, line in zip(found.classes, found.counts, strict=True)
        for answer, count in zip(found.classes, line, strict=True)
        if any(line)
    ]
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("answer:N", sort=None, title="answer", axis=level(found.classes)),
        y=alt.Y("target:N", sort=None, title="target"),
    )
    cells = base.mark_rect().encode(
        color=alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), title="share of target"),
        tooltip=tooltip(("target", "N"), ("answer", "N"), ("rows", "Q")),
    )
    counts = base.mark_text().encode(
        text="rows:Q", color=alt.condition("datum.share > 0.5", alt.value("white"), alt.value("black"))
    )
    caption = f"Answers of {found.run} to the {found.split} rows of {found.task}."
    return Figure(
        f"confusion-{found.run}-{found.task}", f"Confusion: {found.task}", caption, finish(cells + counts)
    )


def _curves(
    base: Any, labels: Sequence[str], told: Sequence[Any], title: str = AVERAGE_TITLE
) -> tuple[Any, bool]:
    """A line of `mean` for each label, and whether it has a band from `low` to `high`."""
    same = {"color": colour(labels, "stroke"), "strokeDash": dash(labels)}
    line = base.mark_line(point=True).encode(y=score("mean:Q", title=title), tooltip=told, **same)
    if len(labels) > _MOST_BANDS:
        return line, False
    band = base.mark_area(opacity=0.18).encode(y=score("low:Q", title=title), y2="high:Q", **same)
    return line + band, True
