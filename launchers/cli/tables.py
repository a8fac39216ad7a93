"""Tables for the terminal, at most 100 columns wide. Decides nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from hyperformer.errors import clip
from hyperformer.settings.build import flatten
from hyperformer.settings.schema import RunConfig
from launchers.plan.runs import Plan, value_text
from launchers.report.files import _parameter_texts, _seeds, cell_text, column_name
from launchers.report.results_table import Table
from launchers.status.run_status import BAD, RunStatus, counts

WIDTH = 100
_COLOURS = {
    "done": "green", "running": "cyan", "pending": "blue", "waiting": "blue", "missing": "dim", "stopped": "yellow",
    "cancelled": "yellow", "failed": "bold red", "lost": "bold red", "damaged": "bold red",
    "unknown": "magenta",
}  # fmt: skip


def console(stream: object = None) -> Console:
    """Colour on a terminal only, and not if NO_COLOR is set (rich sees to both)."""
    out = Console(file=stream or sys.stdout, highlight=False, markup=False, emoji=False)  # type: ignore[arg-type]
    out.width = min(out.width, WIDTH) if out.is_terminal else WIDTH
    return out


def duration(seconds: float | None) -> str:
    """'1:02:03' or '2:03'."""
    if seconds is None:
        return ""
    minutes, second = divmod(int(round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def summary(statuses: Sequence[RunStatus]) -> Text:
    """'12 runs: 3 done, 2 running, ...'."""
    text = Text(f"{len(statuses)} run{'s' if len(statuses) != 1 else ''}: ")
    for index, (state, number) in enumerate(counts(statuses).items()):
        text.append(", " if index else "")
        text.append(f"{number} {state}", style=_COLOURS[state])
    return text


def screen_table(
    titles: Sequence[str], rows: Sequence[Sequence[str | Text]], right: Sequence[str] = ()
) -> Text:
    """A table that shortens its first column if it has to; columns in `right` hold numbers.

    Aligned here and not by rich's own table, which takes a second for a thousand rows.
    """
    widths = [max([len(title), *(len(row[index]) for row in rows)]) for index, title in enumerate(titles)]
    widths[0] = min(widths[0], max(20, WIDTH - sum(width + 2 for width in widths[1:])))
    pads = [str.rjust if title in right else str.ljust for title in titles]
    lines = [
        "  ".join(pad(title, width) for title, pad, width in zip(titles, pads, widths, strict=True)).rstrip()
    ]
    styles: list[tuple[int, int, str]] = []
    lines.append("─" * (sum(widths) + 2 * len(widths) - 2))
    at = sum(len(line) + 1 for line in lines)
    for row in rows:
        cells, begin = [], at
        for cell, pad, width in zip(row, pads, widths, strict=True):
            cells.append(pad(shortened(str(cell), width), width))
            if isinstance(cell, Text) and cell.style:
                styles.append((begin, begin + len(cells[-1]), str(cell.style)))
            begin += width + 2
        lines.append("  ".join(cells).rstrip())
        at += len(lines[-1]) + 1
    text = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
    for start, end, style in styles:
        text.stylize(style, start, end)
    return text


def status_table(statuses: Sequence[RunStatus]) -> Text:
    """A row a run. A column that is empty for all is left out: names need the room."""
    titles = ["run", "state", "job", "step", "loss", "best", "time", "left", "node"]
    rows: list[list[str | Text]] = [
        [
            status.name,
            Text(status.display_state, style=_COLOURS[status.state]),
            "" if status.job_id is None else status.job_id + _attempts(status.attempt),
            f"{status.step}/{status.max_steps}" if status.step is not None else "",
            _number(status.loss, 3),
            _number(status.best_metric, 1),
            duration(status.elapsed),
            duration(status.seconds_left),
            (status.host or "")[:12],
        ]
        for status in statuses
    ]
    kept = [index for index in range(len(titles)) if index < 3 or any(row[index] for row in rows)]
    return screen_table(
        [titles[index] for index in kept],
        [[row[index] for index in kept] for row in rows],
        right=("job", "step", "loss", "best", "time", "left"),
    )


def shortened(text: str, room: int) -> str:
    """A name cut in its middle: runs differ at the end.

    >>> shortened("hyperformer-seed12", 12)
    'hype…-seed12'
    """
    if len(text) <= room:
        return text
    return f"{text[: room // 3]}…{text[len(text) - (room - room // 3 - 1) :]}"


def details(statuses: Sequence[RunStatus]) -> list[Text]:
    """A line for each run that has something to tell, failures first; those that wait in a line a reason."""
    told = [status for status in statuses if status.detail]
    lines = []
    waiting: dict[str, list[RunStatus]] = {}
    for status in sorted(told, key=lambda status: status.state not in BAD):
        if status.state == "pending":
            waiting.setdefault(status.detail, []).append(status)
            continue
        line = Text(f"{status.name}: ", style=_COLOURS[status.state])
        line.append(clip(status.detail, 400), style="not bold default")
        lines.append(line)
    for reason, members in waiting.items():
        who = members[0].name if len(members) == 1 else f"{len(members)} runs"
        lines.append(Text(f"{who} wait{'s' if len(members) == 1 else ''}: ", style="blue").append(reason))
    return lines


def _attempts(attempt: int | None) -> str:
    return f" (#{attempt})" if attempt and attempt > 1 else ""


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def print_table(out: Console, table: Text) -> None:
    """Without wrapping: lines are as wide as they should be."""
    if out.is_terminal:
        out.print(table)
    else:
        print(table.plain, file=out.file)


def print_statuses(out: Console, title: str, statuses: Sequence[RunStatus]) -> None:
    print_table(out, status_table(statuses))
    for line in details(statuses):
        out.print(line)
    spent = sum(status.elapsed or 0.0 for status in statuses)
    text = Text(f"{title}: ").append_text(summary(statuses))
    out.print(text.append(f"; {duration(spent)} of run time" if spent else ""))


def print_shared(out: Console, plan: Plan) -> None:
    """The settings that all runs share and that are not the defaults, in a line."""
    flats = [flatten(run.config) for run in plan.runs]
    defaults = flatten(RunConfig())
    shared = {
        key: value for key, value in flats[0].items()
        if key != "output_dir" and value != defaults[key] and all(flat[key] == value for flat in flats)
    }  # fmt: skip
    if shared:
        out.print("all runs: " + "  ".join(f"{key}={value_text(value)}" for key, value in shared.items()))


def print_plan(out: Console, plan: Plan, statuses: Sequence[RunStatus]) -> None:
    """The runs, below the settings that all of them share and that are not the defaults."""
    print_shared(out, plan)
    rows: list[list[str | Text]] = []
    for run, status in zip(plan.runs, statuses, strict=True):
        tasks = run.config.data.tasks
        told = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
        rows.append([run.name, Text(status.state, style=_COLOURS[status.state]), told, run.signature])
    print_table(out, screen_table(["run", "state", "tasks", "signature"], rows))
    more = [f"{plan.merged} equal to another and merged"] if plan.merged else []
    more += [f"{plan.excluded} excluded"] if plan.excluded else []
    out.print(summary(statuses).append("".join(f"; {text}" for text in more)))


def screen_tables(table: Table) -> Iterator[Text]:
    """The table for the screen, in as many pieces as its columns need to fit."""
    label_width = min(40, max(len("variant"), *(len(row.label) for row in table.rows)))
    columns: list[tuple[str, list[str]]] = [
        (column_name(column), [cell_text(row.cells[column]) for row in table.rows])
        for column in table.columns
    ]
    columns.append(("n", [str(_seeds(row)) for row in table.rows]))
    texts = [_parameter_texts(row.parameters) for row in table.rows]
    for index, title in enumerate(("parameters", "trained", "% a task")):
        columns.append((title, [text[index] for text in texts]))
    piece: list[tuple[str, list[str]]] = []
    used = label_width
    for title, values in columns:
        width = 3 + max(len(title), *map(len, values))  # three blanks between columns
        if piece and used + width > WIDTH:
            yield _piece(table, piece)
            piece, used = [], label_width
        piece.append((title, values))
        used += width
    yield _piece(table, piece)


def _piece(table: Table, columns: Sequence[tuple[str, list[str]]]) -> Text:
    titles = [title for title, _ in columns]
    rows = [[row.label, *(values[index] for _, values in columns)] for index, row in enumerate(table.rows)]
    return screen_table(["variant", *titles], rows, right=titles)
