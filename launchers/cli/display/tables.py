"""What is shown of runs and results, as tables and lines for the terminal. Decides nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from hyperformer.errors import clip
from hyperformer.settings.build import cached_flat
from hyperformer.settings.schema import RunConfig
from hyperformer.terminal import as_written
from launchers.cli.display.layout import WIDTH, Cell, print_table, screen_table
from launchers.plan.plan import Plan
from launchers.plan.run_names import value_text
from launchers.report.report_data import Table
from launchers.report.text import PARAMETER_TITLES, cell_text, column_names, parameter_texts, seeds_text
from launchers.status.run_status import BAD, RunStatus, State, counts

_COLOURS = {
    "done": "green", "running": "cyan", "pending": "blue", "waiting": "blue", "missing": "dim", "stopped": "yellow",
    "paused": "dim", "cancelled": "yellow", "failed": "bold red", "lost": "bold red", "damaged": "bold red",
    "unknown": "magenta",
}  # fmt: skip


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


def status_table(statuses: Sequence[RunStatus], width: int = WIDTH) -> Text:
    """A row per run. A column that is empty for all is left out: names need the room."""
    titles = ["run", "state", "job", "step", "loss", "best", "time", "left", "node"]
    rows: list[list[Cell]] = [
        [
            status.name,
            _state_cell(status.display_state, status.state),
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
        width,
        numbers=("job", "step", "loss", "best", "time", "left"),
        optional=("node", "best", "loss", "time", "job", "left"),
    )


def group_by_text(explained: Iterable[tuple[RunStatus, str]]) -> list[tuple[list[RunStatus], str]]:
    """Runs that share a text, and that text; failures first.

    What differs by the run's own name or folder alone is the same.
    """
    groups: dict[tuple[str, str], tuple[list[RunStatus], str]] = {}
    for status, text in sorted(explained, key=lambda each: each[0].state not in BAD):
        same = text.replace(status.folder, "").replace(status.name, "")
        groups.setdefault((status.display_state, same), ([], text))[0].append(status)
    return list(groups.values())


def run_names(statuses: Sequence[RunStatus]) -> str:
    """'a', 'a, b, c', 'a, b, c and 4 more'."""
    names = [status.name for status in statuses]
    if len(names) <= 4:
        return ", ".join(names)
    return f"{', '.join(names[:3])} and {len(names) - 3} more"


def details(statuses: Sequence[RunStatus]) -> list[Text]:
    """What there is to tell of runs, failures first; equal ones in one line."""
    lines = []
    for members, detail in group_by_text((status, status.detail) for status in statuses if status.detail):
        wait = f" wait{'s' if len(members) == 1 else ''}" if members[0].state == "pending" else ""
        line = Text(f"{run_names(members)}{wait}: ", style=_COLOURS[members[0].state])
        lines.append(line.append(clip(detail, 400), style="not bold default"))
    return lines


@functools.cache
def _state_cell(shown: str, state: State) -> Text:
    return Text(shown, style=_COLOURS[state])


def _attempts(attempt: int | None) -> str:
    return f" (#{attempt})" if attempt and attempt > 1 else ""


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def print_statuses(out: Console, title: str, statuses: Sequence[RunStatus]) -> None:
    print_table(out, status_table(statuses, out.width))
    for line in details(statuses):
        out.print(line)
    spent = sum(status.elapsed or 0.0 for status in statuses)
    text = Text(f"{title}: ").append_text(summary(statuses))
    out.print(text.append(f"; {duration(spent)} of run time" if spent else ""))


def print_shared(out: Console, plan: Plan) -> None:
    """The settings that all runs share and that are not the defaults, in a line."""
    flats = [cached_flat(run.config) for run in plan.runs]
    defaults = cached_flat(RunConfig())
    shared = {
        key: value for key, value in flats[0].items()
        if key != "output_dir" and value != defaults[key] and all(flat[key] == value for flat in flats)
    }  # fmt: skip
    if shared:
        out.print("all runs: " + "  ".join(f"{key}={value_text(value)}" for key, value in shared.items()))


def print_plan(out: Console, plan: Plan, statuses: Sequence[RunStatus]) -> None:
    """The runs, below the settings that all of them share and that are not the defaults."""
    print_shared(out, plan)
    rows: list[list[Cell]] = []
    for run, status in zip(plan.runs, statuses, strict=True):
        tasks = run.config.data.tasks
        task = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
        rows.append([run.name, _state_cell(status.state, status.state), task, run.signature])
    titles = ["run", "state", "tasks", "signature"]
    print_table(out, screen_table(titles, rows, out.width, optional=("signature", "tasks")))
    more = [f"{plan.merged} equal to another and merged"] if plan.merged else []
    more += [f"{plan.excluded} excluded"] if plan.excluded else []
    out.print(summary(statuses).append("".join(f"; {text}" for text in more)))


def result_tables(table: Table, width: int = WIDTH) -> Iterator[Text]:
    """The results table for the screen, in as many pieces as its columns need to fit."""
    columns: dict[str, list[str]] = {}
    if table.has_choices:
        columns["chosen"] = [row.chosen_label for row in table.rows]
    for name, column in zip(column_names(table.columns), table.columns, strict=True):
        columns[name] = [cell_text(row.cells[column]) for row in table.rows]
    if table.has_choices:
        columns[table.validation_name] = [cell_text(row.validation) for row in table.rows]
    columns["n"] = [seeds_text(row) for row in table.rows]
    parameters = [parameter_texts(row.parameters) for row in table.rows]
    for index, title in enumerate(PARAMETER_TITLES):
        columns[title] = [texts[index] for texts in parameters]
    labels = [row.label for row in table.rows]
    label_width = min(40, width // 2, max(map(len, ["variant", *labels])))
    piece: dict[str, list[str]] = {}
    used = label_width
    for title, values in columns.items():
        needed = 2 + max(len(title), *map(len, map(as_written, values)))
        if piece and used + needed > width:
            yield _piece(labels, piece, width)
            piece, used = {}, label_width
        piece[title] = values
        used += needed
    yield _piece(labels, piece, width)


def _piece(labels: Sequence[str], columns: Mapping[str, Sequence[str]], width: int) -> Text:
    rows = [[label, *values] for label, *values in zip(labels, *columns.values(), strict=True)]
    return screen_table(["variant", *columns], rows, width, numbers=tuple(columns))
