"""The words and numbers of a report as text: the same in every output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hyperformer.errors import clip
from launchers.plan.model_selection.choose import Choice
from launchers.plan.model_selection.rule import SHORT_METRICS
from launchers.report.report_data import LEVEL, Cell, Column, Comparison, Interval, Parameters, Row, Table
from launchers.status.run_status import BAD

MISSING = "–"
# Of intervals of the mean, measured on seeds from a normal distribution; from 5 seeds on (interquartile mean): 93%.
_COVERAGE = {2: 50, 3: 75, 4: 81}
_LARGE_ERROR = 1.0
"""Percentage points; a test set with a larger standard error is said to be small."""
PARAMETER_TITLES = ("parameters", "trained", "% per task")
COMPARISON_TITLES = ("best", "against", "difference", "p", "higher", "95% interval")


def column_name(column: Column) -> str:
    """'cola mcc', 'Avg over columns'."""
    return " ".join(part for part in (column[0], SHORT_METRICS.get(column[1], column[1])) if part)


def column_names(columns: Sequence[Column]) -> list[str]:
    """The names of a table's columns; of two that would have one name, each has its metric's full name.

    >>> column_names([("a", "pearson_corrcoef"), ("b", "pearson_corrcoef"), ("a", "pearson")])
    ['a pearson_corrcoef', 'b pearson', 'a pearson']
    """
    short = [column_name(column) for column in columns]
    return [
        name if short.count(name) == 1 else " ".join(column)
        for name, column in zip(short, columns, strict=True)
    ]


def cell_text(cell: Cell) -> str:
    """'71.2', '71.2 ±0.4' over several seeds, '71.2*' over fewer than planned, '71.2†' if worse; '–' for none."""
    if cell.mean is None:
        return MISSING
    spread = "" if cell.std is None else f" ±{cell.std:.1f}"
    worse = "†" if cell.difference is not None and cell.difference.is_significant else ""
    return f"{cell.mean:z.1f}{spread}{'' if cell.is_complete else '*'}{worse}"


def seeds_text(row: Row) -> str:
    """'3', or where results are missing '1 of 3', '0–2 of 3': of the cell with the fewest, and with the most."""
    cells = [cell for cell in row.cells.values() if cell.planned]
    least, most = min(cell.n for cell in cells), max(cell.n for cell in cells)
    planned = max(cell.planned for cell in cells)
    if all(cell.is_complete for cell in cells):
        return str(most)
    return f"{least if least == most else f'{least}–{most}'} of {planned}"


def parameter_texts(parameters: Parameters | None) -> tuple[str, str, str]:
    """As PARAMETER_TITLES."""
    if parameters is None:
        return MISSING, MISSING, MISSING
    return f"{parameters.total:,}", f"{parameters.trained:,}", f"{parameters.percent_per_task:.2f}%"


def table_title(table: Table) -> str:
    """'Test (the checkpoint chosen on validation)'."""
    what = "the checkpoint chosen on validation" if table.split == "test" else "what the choice was made on"
    return f"{table.split.capitalize()}{', all settings' if table.is_appendix else ''} ({what})"


def footnotes(table: Table) -> list[str]:
    """What the table's marks mean, and what is missing from it."""
    cells = [cell for row in table.rows for cell in row.cells.values()]
    notes = [f"Do not compare: {text}." for text in table.warnings]
    if any(cell.std is not None for cell in cells):
        notes.append("± is the sample standard deviation over seeds; n is the number of seeds.")
    if any(cell.mean is not None and not cell.is_complete for cell in cells):
        notes.append("* over fewer seeds than planned.")
    if len(table.blocks) > 1:
        given = " and ".join(dict.fromkeys(key for row in table.rows for key, _ in row.block))
        notes.append(
            f"Only rows with the same {given} are compared: the best of a column is the best of them."
        )
    notes += _test_notes(table)
    notes += [f"{row.label}: {_unfinished(row)}." for row in table.rows if row.unfinished]
    gaps: dict[str, list[str]] = {}
    for row in table.rows:
        for gap in row.gaps:
            gaps.setdefault(gap, []).append(row.label)
    return notes + [f"{_some(labels, ', ')}: {gap}." for gap, labels in gaps.items()]


def _test_notes(table: Table) -> Iterator[str]:
    """What was tested between rows, and which test sets are too small to tell."""
    cells = [cell for row in table.rows for cell in row.cells.values()]
    tested = [cell.difference for cell in cells if cell.difference is not None]
    if tested:
        how = "paired bootstrap over the test rows, with the spread between seeds"
        if any(difference.is_significant for difference in tested):
            yield (
                f"† worse than the best row of the column (bold): {how}; "
                f"p < {LEVEL} after Holm's correction for all {table.pairs} pairs of the table."
            )
        else:
            yield (
                f"No row is shown to be worse than the best of a column: {how}; "
                f"p >= {LEVEL} after Holm's correction for all {table.pairs} pairs of the table."
            )
        if any(cell.n == 1 for cell in cells):
            yield "Rows with one seed are tested as they are: what other seeds would give is not known."
    small = [
        f"{column_name(column)} ({one.rows:,} rows: {one.standard_error:.1f})"
        for column, one in table.precision.items()
        if one.standard_error >= _LARGE_ERROR
    ]
    if small:
        yield (
            "Small test sets: on other rows of the same kind a result would differ by this standard error, in points: "
            f"{', '.join(small)}. Differences of less than twice that say little."
        )
    yield from (f"Not tested against other rows: {text}." for text in table.untested)


def interval_text(interval: Interval | None) -> str:
    """'70.9 to 71.6', '70.9 to 71.6 (interquartile mean 71.3)'; '–' for none."""
    if interval is None:
        return MISSING
    what = f" ({interval.of} {interval.estimate:.1f})" if interval.of == "interquartile mean" else ""
    return f"{interval.low:z.1f} to {interval.high:z.1f}{what}"


def comparison_texts(comparison: Comparison) -> tuple[str, ...]:
    """As COMPARISON_TITLES."""
    interval = comparison.interval
    return (
        comparison.better,
        comparison.other,
        f"{comparison.difference:+.1f}",
        MISSING if comparison.p is None else f"{comparison.p:.2f}",
        f"{comparison.probability:.0f}%",
        f"{interval.low:.0f} to {interval.high:.0f}" if interval else MISSING,
    )


def comparison_notes(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What the columns of COMPARISON_TITLES are."""
    if not comparisons:
        return
    yield (
        "The row with the best average over tasks, against each other one. Difference: of these averages, in points. "
        "Higher: in how many pairs of seeds the best row scores higher on a task, mean over tasks, with its 95% "
        "interval over seeds."
    )
    known = [one for one in comparisons if one.p is not None]
    if known:
        yield "p: of the difference, two-sided, by a permutation test over seeds. It is not corrected for their number."
    few = sorted({f"{one.least_p:.2f}" for one in known if one.least_p >= LEVEL})
    if few:
        yield f"So few seeds cannot give a p below {' to '.join(dict.fromkeys([few[0], few[-1]]))}."
    if len(known) < len(comparisons):
        yield "Rows with one seed have no p and no interval."


def seed_notes(table: Table) -> list[str]:
    """What the intervals of a table mean."""
    seeds = sorted({cell.n for row in table.rows for cell in row.cells.values() if cell.interval})
    if not seeds:
        return []
    told = [
        "Intervals are 95% percentile bootstrap intervals over seeds; with 5 seeds or more, of the interquartile mean."
    ]
    few = [f"{count} seeds {_COVERAGE[count]}%" for count in seeds if count in _COVERAGE]
    if few:
        told.append(
            f"With few seeds they are too short. They hold the true value in about: {', '.join(few)} of cases."
        )
    return told


def choice_text(choice: Choice) -> str:
    """What was chosen, by which number, and what a reader must know of it, in a line."""
    if choice.chosen is None:
        told = f"nothing is chosen: no setting has a {choice.number.name}"
    elif len(choice.options) == 1:
        told = f"nothing to choose; {choice.number.name} {_score_text(choice)}"
    else:
        told = f"{choice.chosen.label} of {len(choice.options)} settings, by {choice.number.name} {_score_text(choice)}"
    if choice.tied:
        tied = ", ".join(option.label for option in choice.tied)
        told += f"; tied with {tied}: the first in the sweep file is chosen"
    if choice.chosen is not None and not choice.is_final:
        told += "; preliminary: not all runs have ended"
    gaps = [gap.text for option in choice.options for gap in option.gaps]
    return f"{choice.label}: {told}{f' (no number: {_some(gaps)})' if gaps else ''}."


def _score_text(choice: Choice) -> str:
    option = choice.chosen
    assert option is not None and option.mean is not None
    spread = "" if option.std is None else f" ±{option.std:.2f}"
    seeds = (
        f"{len(option.scores)} of {option.planned}"
        if len(option.scores) < option.planned
        else f"{option.planned}"
    )
    return f"{option.mean:.2f}{spread} over {seeds} seed{'s' if option.planned > 1 else ''}"


def _some(texts: Sequence[str], mark: str = "; ") -> str:
    return mark.join(texts[:6]) + (f"{mark}and {len(texts) - 6} more" if len(texts) > 6 else "")


def _unfinished(row: Row) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, state, reason in row.unfinished:
        groups.setdefault((state, reason if state in {*BAD, "unknown"} else ""), []).append(name)
    told = [
        f"{state}: {', '.join(names)}{f' ({clip(reason, 120)})' if reason else ''}"
        for (state, reason), names in groups.items()
    ]
    return f"{len(row.unfinished)} of {row.planned} runs have no result; {'; '.join(told)}"
