"""Whether a run's result.json says what its answers say. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.answers.answers import Answers, read_scored
from hyperformer.answers.files import listed, read_listed, read_result
from hyperformer.data.examples import checksum_of_targets
from hyperformer.data.metrics import average
from hyperformer.errors import FileError, HyperformerError
from hyperformer.run_files.run_folder import RunFolder

_SPLITS = ("validation", "test")
AVERAGE = "average over columns"
Key = tuple[str, str, str]
"""Split, task and metric; the average over metric columns is split, '' and AVERAGE."""


@dataclass(frozen=True)
class Verification:
    """The result of computing a run's numbers again.

    Attributes:
        folder: the run's.
        answers: of the files that are there as they were written: (split, task) -> content.
        numbers: what was computed from them, in percent.
        findings: everything that is not as it should be; empty: all is.
    """

    folder: Path
    answers: Mapping[tuple[str, str], Answers]
    numbers: Mapping[Key, float]
    findings: tuple[str, ...]

    def check(self) -> None:
        """Raise FileError if there are findings; the message has them all."""
        if self.findings:
            lines = "\n  ".join(self.findings)
            raise FileError(f"{self.folder}: result.json and the answers do not agree:\n  {lines}")


def verify_run(folder: str | Path) -> Verification:
    """Check every file of answers that result.json lists, and compute its metrics and averages again.

    Checked are: size and checksum of each file; its rows, in order and as many as listed; that what was
    scored follows from what was generated, or from the labels' log-probabilities; that the right answers
    are those that the run read; and that each metric and average is the same number, to the last digit.

    Raises:
        FileError: the run is not done, or is of an earlier version, which kept no answers.
    """
    run = RunFolder(folder)
    result = read_result(run)
    answers: dict[tuple[str, str], Answers] = {}
    findings: list[str] = []
    computed: dict[Key, float] = {}
    unread: set[tuple[str, str]] = set()
    for split, files in listed(run, result).items():
        for task, entry in files.items():
            try:
                found = answers[split, task] = read_listed(run.answers, split, task, entry)
                findings += [f"{split} {task}: {fault}" for fault in _faults(found, result)]
                computed |= {(split, task, metric): value for metric, value in found.metrics().items()}
            except HyperformerError as error:
                findings.append(str(error))
                unread |= {(split, task), (split, "")}
    computed |= {key: value for key, value in _averages(computed).items() if key[:2] not in unread}
    findings += (line for key, line in _differences(_recorded(result), computed) if key[:2] not in unread)
    return Verification(run.path, answers, computed, tuple(findings))


def _faults(answers: Answers, result: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with rows whose checksum is right."""
    task = answers.task
    for row, scored in enumerate(answers.scored):
        given = _given(answers, row)
        if str(scored) not in [str(read_scored(task, text)) for text in given]:
            yield f"row {row}: the answer is {scored!r}, and the model gave {' or '.join(map(repr, given)) or 'none'}"
    inputs = result.get("inputs")
    rows = inputs.get("rows") if isinstance(inputs, dict) else None
    fingerprint = rows.get(f"{task.name} {answers.split}") if isinstance(rows, dict) else None
    if not str(fingerprint).endswith(checksum_of_targets(answers.targets, answers.references)):
        yield "the targets are not those of the rows that the run read (`inputs` in result.json)"


def _given(answers: Answers, row: int) -> list[str]:
    """What the model gave: its text, or the most probable labels (several, if they are equally probable)."""
    generated, logprobs = answers.generated[row], answers.label_logprobs
    if generated is not None:
        return [generated]
    of_row = {} if logprobs is None else logprobs[row]
    return [label for label, value in of_row.items() if value == max(of_row.values())]


def _recorded(result: Mapping[str, Any]) -> dict[Key, Any]:
    """The numbers of result.json that answers decide, keyed as in :class:`Verification`."""
    found = {
        (split, task, metric): value
        for split in _SPLITS
        for task, columns in result[split].items()
        for metric, value in columns.items()
    }
    averages = {(split, "", AVERAGE): result.get(f"{split}_average") for split in _SPLITS}
    return found | {key: value for key, value in averages.items() if value is not None}


def _averages(computed: Mapping[Key, float]) -> dict[Key, float]:
    """The average of each split over all metric columns."""
    found: dict[Key, float] = {}
    for split in _SPLITS:
        columns = {f"{task} {metric}": value for (of, task, metric), value in computed.items() if of == split}
        if columns:
            found[split, "", AVERAGE] = average({split: columns})
    return found


def _differences(recorded: Mapping[Key, Any], computed: Mapping[Key, float]) -> Iterator[tuple[Key, str]]:
    """Each number that is not the same in both, with a line that says so."""
    for key in sorted(recorded.keys() | computed.keys()):
        there, again = recorded.get(key), computed.get(key)
        if there == again:
            continue
        line = f"{' '.join(filter(None, key))}: result.json has {there}, the answers give {again}"
        if isinstance(there, float) and again is not None and math.isclose(there, again, rel_tol=1e-12):
            line += " (so small a difference may be another processor's rounding)"
        yield key, line
