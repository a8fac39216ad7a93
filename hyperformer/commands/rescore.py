"""``hyperformer rescore``: a run's metrics, computed again from its answers, and how its classes were told apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hyperformer.answers.classes import class_report, class_table
from hyperformer.answers.verify import Verification, verify_run


def run_rescore(folder: Path) -> None:
    """Print what the answers say.

    Raises:
        FileError: the run is not done or kept no answers; a file is missing or damaged; a number is not
            that of result.json. Everything that could be computed is printed before.
    """
    found = verify_run(folder)
    print("\n".join(_lines(found)))
    found.check()


def _lines(found: Verification) -> Iterator[str]:
    for (split, task), answers in found.answers.items():
        columns = {metric: value for (*of, metric), value in found.numbers.items() if of == [split, task]}
        values = "  ".join(f"{metric} {value}" for metric, value in columns.items())
        yield f"{split} {task}: {len(answers):,} rows: {values}"
        report = class_report(answers)
        if report is not None:
            yield from (f"  {line}" for line in class_table(report).splitlines())
    for (split, task, metric), value in found.numbers.items():
        if not task:
            yield f"{split} {metric}: {value}"
    if not found.findings:
        yield f"{len(found.numbers)} numbers of result.json are those of {len(found.answers)} files of answers"
