"""How wide the terminal is, and tables that fit it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.control import strip_control_codes
from rich.text import Span, Text

from hyperformer.terminal import as_written

WIDTH = 100  # columns at most, and where output does not go to a terminal
_LEAST_FIRST_COLUMN = 20


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """As everywhere: the error is passed on. Rich's own way ends the process with 1, which is a failed run."""
        raise


def console() -> Console:
    """Colour on a terminal only, and not if NO_COLOR is set (rich sees to both)."""
    out = _Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
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

    It leaves out optional columns, the first named first, and then shortens its first column, unless two names
    would look alike. Aligned here and not by rich's own table, which takes a second for a thousand rows.

    Args:
        numbers: titles of the columns that are aligned on the right.
    """
    columns = {title: _shown([row[at] for row in rows]) for at, title in enumerate(titles)}
    styles = {title: _styles([row[at] for row in rows]) for at, title in enumerate(titles)}
    for title in optional:
        if _width(columns) > width:
            columns.pop(title, None)
    first, *others = columns
    sizes = {title: max(map(len, [title, *cells])) for title, cells in columns.items()}
    room = width - sum(sizes[title] + 2 for title in others)
    columns[first] = _shortened_apart(columns[first], max(_LEAST_FIRST_COLUMN, room))
    sizes[first] = max(map(len, [first, *columns[first]]))
    pads = {title: str.rjust if title in numbers else str.ljust for title in columns}
    head = "  ".join(pads[title](title, sizes[title]) for title in columns)
    padded = [[pads[title](cell, sizes[title]) for cell in cells] for title, cells in columns.items()]
    lines = [
        head.rstrip(),
        "─" * len(head),
        *("  ".join(cells).rstrip() for cells in zip(*padded, strict=True)),
    ]
    table = Text("\n".join(lines), no_wrap=True, overflow="ellipsis")
    left = 0
    for title, size in sizes.items():
        table.spans += _spans(lines, styles[title], left, size)
        left += size + 2
    return table


def _spans(lines: Sequence[str], styles: Sequence[str | None], left: int, size: int) -> Iterator[Span]:
    """Where the styles of a column are in the text of the lines, of which the first two are the head."""
    if not any(styles):
        return
    at = sum(len(line) + 1 for line in lines[:2])
    for line, style in zip(lines[2:], styles, strict=True):
        if style and left < len(line):
            yield Span(at + left, at + min(left + size, len(line)), style)
        at += len(line) + 1


def _shown(cells: Sequence[Cell]) -> list[str]:
    """The cells of a column as the screen shows them. Most columns hold nothing odd: one look at all of it tells."""
    texts = list(map(str, cells))
    whole = "".join(texts)
    if whole.isascii() and whole.isprintable():
        return texts
    written = map(as_written, texts)
    return [text if text.isprintable() else strip_control_codes(text) for text in written]


def _styles(cells: Sequence[Cell]) -> list[str | None]:
    """The style of each cell; [] for a column without any."""
    if Text not in set(map(type, cells)):
        return []
    return [str(cell.style) if isinstance(cell, Text) and cell.style else None for cell in cells]


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    """Of the whole table: the first column at its least, two blanks between columns."""
    first, *others = (max(map(len, [title, *cells])) for title, cells in columns.items())
    return min(first, _LEAST_FIRST_COLUMN) + sum(size + 2 for size in others)


def _shortened_apart(names: Sequence[str], room: int) -> list[str]:
    """Names cut in their middle where that leaves all of them different; else whole.

    >>> _shortened_apart(["lr1-decay0-seed1", "lr2-decay0-seed1"], 9)
    ['lr1…seed1', 'lr2…seed1']
    >>> _shortened_apart(["lr1-decay0-seed1", "lr1-decay0-seed1", "lr1-decay2-seed1"], 9)
    ['lr1-decay0-seed1', 'lr1-decay0-seed1', 'lr1-decay2-seed1']
    """
    for parts in (3, 2):  # runs mostly differ at the end
        cut = [_shortened(name, room, room // parts) for name in names]
        if len(set(cut)) == len(set(names)):
            return cut
    return list(names)


def _shortened(name: str, room: int, head: int) -> str:
    if len(name) <= room:
        return name
    return f"{name[:head]}…{name[len(name) - (room - head - 1) :]}"


def print_table(out: Console, table: Text) -> None:
    """Without wrapping: lines are as wide as they should be."""
    if out.is_terminal:
        out.print(table, soft_wrap=True)
    else:
        print(table.plain, file=out.file)
