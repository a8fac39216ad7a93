"""How wide the terminal is, and tables that fit it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from hyperformer.terminal import as_written

WIDTH = 100  # columns at most, and where output does not go to a terminal
_LEAST_FIRST_COLUMN = 20


def console() -> Console:
    """Colour on a terminal only, and not if NO_COLOR is set (rich sees to both)."""
    out = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    out.width = min(out.width, WIDTH) if out.is_terminal else WIDTH
    return out


Cell = str | Text


def screen_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    width: int,
    numbers: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> Text:
    """A table of `width` columns at most, as far as that can be.

    It leaves out optional columns, the first named first, and then shortens its first column. Aligned here
    and not by rich's own table, which takes a second for a thousand rows.

    Args:
        numbers: titles of the columns that are aligned on the right.
    """
    columns = {title: [as_written(str(row[at])) for row in rows] for at, title in enumerate(titles)}
    styles = {title: [_style(row[at]) for row in rows] for at, title in enumerate(titles)}
    for title in optional:
        if _width(columns) > width:
            columns.pop(title, None)
    first, *others = columns
    sizes = {title: max(map(len, [title, *cells])) for title, cells in columns.items()}
    room = width - sum(sizes[title] + 2 for title in others)
    sizes[first] = min(sizes[first], max(_LEAST_FIRST_COLUMN, room))
    pads = {title: str.rjust if title in numbers else str.ljust for title in columns}
    head = "  ".join(pads[title](title, sizes[title]) for title in columns)
    table = Text(f"{head.rstrip()}\n{'─' * len(head)}", no_wrap=True, overflow="ellipsis")
    for at in range(len(rows)):
        table.append("\n")
        line = [
            (pads[title](shortened(cells[at], sizes[title]), sizes[title]), styles[title][at])
            for title, cells in columns.items()
        ]
        for index, (cell, style) in enumerate(line):
            table.append("  " if index else "")
            table.append(cell.rstrip() if index == len(line) - 1 else cell, style)
    return table


def _style(cell: Cell) -> str | None:
    return str(cell.style) if isinstance(cell, Text) and cell.style else None


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Of the whole table: the first column at its least, two blanks between columns."""
    first, *others = (max(map(len, [title, *cells])) for title, cells in columns.items())
    return min(first, _LEAST_FIRST_COLUMN) + sum(size + 2 for size in others)


def shortened(text: str, room: int) -> str:
    """A name cut in its middle: runs differ at the end.

    >>> shortened("hyperformer-seed12", 12)
    'hype…-seed12'
    """
    if len(text) <= room:
        return text
    return f"{text[: room // 3]}…{text[len(text) - (room - room // 3 - 1) :]}"


def print_table(out: Console, table: Text) -> None:
    """Without wrapping: lines are as wide as they should be."""
    if out.is_terminal:
        out.print(table)
    else:
        print(table.plain, file=out.file)
