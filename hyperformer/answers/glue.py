"""The files that GLUE's server takes: one per test set, ``index<TAB>prediction``, from unlabelled rows. No torch.

The names, label forms and sizes are those of https://gluebenchmark.com/faq.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hyperformer.answers.answers import read_scored
from hyperformer.data.readers.rows import Rows
from hyperformer.data.sources import load_rows
from hyperformer.data.tasks import TASKS, Task
from hyperformer.data.tasks.task import Hub
from hyperformer.errors import ConfigError, DataError, HyperformerError
from hyperformer.files import atomic_write


@dataclass(frozen=True)
class GlueSet:
    """A test set of GLUE.

    Attributes:
        file: that the server takes.
        task: our task that answers it.
        split: of the data set, and `source` the data set if it is not the task's.
        count: how many rows it has.
        forms: our label -> the server's; empty: they are the same.
    """

    file: str
    task: str
    count: int
    split: str = "test"
    source: str = ""
    forms: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The folder of its rows, in a data folder and on the hub."""
        return self.source or self.task


_TWO = {"0": "entailment", "1": "not_entailment"}
_THREE = {"0": "entailment", "1": "neutral", "2": "contradiction"}
SETS = (
    GlueSet("CoLA.tsv", "cola", 1_063),
    GlueSet("SST-2.tsv", "sst2", 1_821),
    GlueSet("MRPC.tsv", "mrpc", 1_725),
    GlueSet("STS-B.tsv", "stsb", 1_379),
    GlueSet("QQP.tsv", "qqp", 390_965),
    GlueSet("MNLI-m.tsv", "mnli", 9_796, "test_matched", forms=_THREE),
    GlueSet("MNLI-mm.tsv", "mnli", 9_847, "test_mismatched", forms=_THREE),
    GlueSet("QNLI.tsv", "qnli", 5_463, forms=_TWO),
    GlueSet("RTE.tsv", "rte", 3_000, forms=_TWO),
    GlueSet("WNLI.tsv", "wnli", 146),
    GlueSet("AX.tsv", "mnli", 1_104, source="ax", forms=_THREE),
)
"""Every file of a submission; AX, the diagnostic set, is answered by the model of mnli."""


def sets_of(tasks: Iterable[str]) -> list[GlueSet]:
    """The test sets that a model of these tasks answers.

    Raises:
        ConfigError: none of the tasks is GLUE's.
    """
    known = set(tasks)
    found = [one for one in SETS if one.task in known]
    if not found:
        names = ", ".join(dict.fromkeys(one.task for one in SETS))
        raise ConfigError(f"--glue-submission: the tasks {', '.join(sorted(known))} are not GLUE's: {names}")
    return found


def load_sets(sets: Sequence[GlueSet], data_dir: str | None) -> list[Rows]:
    """The rows of every test set, in the order of GLUE's index.

    Args:
        data_dir: holds ``<task>/<split>.jsonl`` (or another format); None: from the hub.

    Raises:
        DataError: rows are missing, or are not GLUE's; the message names every test set of which that is true.
    """
    found, faults = [], []
    for one in sets:
        try:
            found.append(_load(one, data_dir))
        except HyperformerError as error:
            faults.append(f"{one.file}: {error}")
    if faults:
        raise DataError("--glue-submission: GLUE wants all rows of every test set:\n  " + "\n  ".join(faults))
    return found


def _load(one: GlueSet, data_dir: str | None) -> Rows:
    task = TASKS[one.task]
    if one.source:
        task = replace(task, name=one.source, hub=task.hub and Hub(task.hub.path, one.source))
    rows = load_rows(task, one.split, source="folder" if data_dir else "hub", data_dir=data_dir)
    if rows.count != one.count:
        raise DataError(f"{rows.where} has {rows.count:,} rows, and this test set has {one.count:,}")
    names = [name for name in ("idx", "index") if name in rows.names]
    if not names:
        raise DataError(f"{rows.where} has no column 'idx', which says which row of the test set each one is")
    index = [str(value) for value in rows.column(names[0])]
    if index != [str(number) for number in range(one.count)]:
        row = next(row for row, value in enumerate(index) if value != str(row))
        raise DataError(
            f"{rows.place(row)}: column {names[0]!r} is {index[row]}, and {row} was expected: "
            "the rows must be in the order of the test set, numbered from 0"
        )
    return rows


def write_submission(one: GlueSet, answers: Sequence[str], folder: Path) -> Path:
    """Write a test set's file into `folder`, which is created if needed; returns its path.

    Args:
        answers: for each row, as the model gave it.

    Raises:
        DataError: an answer is not one that GLUE takes; nothing is written.
    """
    task = TASKS[one.task]
    predictions = [_prediction(one, task, text) for text in answers]
    wrong = [row for row, prediction in enumerate(predictions) if prediction is None]
    if wrong:
        labels = task.labels or ()
        wanted = (
            f"a number from {labels[0]} to {labels[-1]}" if task.rounded else f"a label: {', '.join(labels)}"
        )
        raise DataError(
            f"{one.file}: GLUE wants {wanted}. Of {len(answers):,} answers {len(wrong):,} are none, the first in row "
            f"{wrong[0]}: {answers[wrong[0]]!r}. With --decode constrained or rank every answer is a label. "
            "Nothing was written for this test set"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / one.file) as stream:
        stream.write("index\tprediction\n")
        stream.writelines(f"{row}\t{prediction}\n" for row, prediction in enumerate(predictions))
    return folder / one.file


def _prediction(one: GlueSet, task: Task, text: str) -> str | None:
    """An answer in the form that GLUE takes; None: it has none."""
    labels, value = task.labels or (), read_scored(task, text)
    if task.rounded:
        is_score = math.isfinite(value) and float(labels[0]) <= value <= float(labels[-1])
        return str(value) if is_score else None
    return next((one.forms.get(label, label) for label in labels if read_scored(task, label) == value), None)


def still_missing(folder: Path) -> list[str]:
    """The files that a submission in `folder` lacks."""
    return [one.file for one in SETS if not (folder / one.file).exists()]
