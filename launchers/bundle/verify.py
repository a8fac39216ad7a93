"""Whether a bundle says what the answers in it say. Needs the installed package and the bundle, and runs no code of it.

Checked are: the SHA-256 of each file; that no file is missing or was added; that the settings of each run give its
signature; every metric and average of each run that is done, from its answers (:mod:`hyperformer.answers.verify`); and
every line and number of report.md, table.tex and the CSV files, which are made again from the results.

Not checked, since no answer decides them: parameters, times, and the figures. Their files are compared by hash. Whoever
writes answers, results, report and manifest anew writes another bundle: its SHA-256 differs, and `--retrain` tells.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hyperformer.answers.verify import Key, verify_run
from hyperformer.errors import HyperformerError
from hyperformer.files import file_digest
from hyperformer.run_files.run_folder import RunFolder
from launchers.bundle.archive import unpack
from launchers.bundle.planned_runs import PlannedRuns, read_runs
from launchers.bundle.report_check import count_numbers, report_faults
from launchers.report.make_report import make_report
from launchers.report.results import RunResult
from launchers.store.records import try_record
from launchers.store.sweep_folder import SweepFolder

_Scored = dict[str, Mapping[Key, float]]
"""What the answers of each run give, by signature."""
# What a changed file can raise where it is read; our own errors are not among these.
_OF_CHANGED_FILES = (
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    IndexError,
    RecursionError,
    OverflowError,
)


@dataclass
class Verified:
    """What came of verifying a bundle.

    Attributes:
        sha256: of the bundle's file.
        sweep: its name.
        version: of HyperFormer, which wrote it.
        runs: those that are done, of `planned`.
        rows: answers that were scored again.
        numbers: of the report's CSV files that were compared.
        faults: all that is not as it should be, a line each; empty: all is.
    """

    sha256: str
    sweep: str
    version: str
    runs: int = 0
    planned: int = 0
    rows: int = 0
    numbers: int = 0
    faults: tuple[str, ...] = ()


def verify_bundle(path: Path, folder: Path) -> Verified:
    """Unpack a bundle into an empty folder, and verify it.

    Raises:
        FileError: it is not a bundle, is cut, or is not safe to unpack.
    """
    manifest, faults = unpack(path, folder)
    found = Verified(file_digest(path), str(manifest.get("sweep")), str(manifest.get("hyperformer")))
    try:
        planned = read_runs(folder)
    except HyperformerError as error:
        found.faults = (*faults, str(error).replace(f"{folder}/", ""))
        return found
    found.planned = len(planned.runs)
    scored: _Scored = {}
    for entry in planned.runs:
        faults += [f"{entry.run.name}: {line}" for line in _run_faults(entry, planned, found, scored)]
    runs = tuple(_as_scored(entry, scored.get(entry.run.signature, {})) for entry in planned.runs)
    faults += _check_report(folder, replace(planned, runs=runs), found)
    found.faults = tuple(line.replace(f"{folder}/", "") for line in dict.fromkeys(faults))
    return found


def _run_faults(entry: RunResult, planned: PlannedRuns, found: Verified, scored: _Scored) -> Iterator[str]:
    """What is wrong with one run's files; notes in `scored` what its answers give."""
    folder = RunFolder(entry.folder)
    if entry.status.state != "done":
        if folder.result.exists():
            yield f"it has a result.json, and its state is {entry.status.state}"
        return
    found.runs += 1
    try:
        record = folder.read_record()
        if record is None:
            yield "config.json is missing"
        elif record["signature"] != entry.run.signature:
            yield f"config.json is of another run: {record['signature']}, not {entry.run.signature}"
        elif folder.read_config().known_as is not None and entry.run.signature not in planned.legacy:
            yield f"the settings in config.json are not those of its signature {entry.run.signature}"
        verified = verify_run(entry.folder)
    except HyperformerError as error:
        yield str(error)
        return
    except _OF_CHANGED_FILES as error:
        yield f"its files cannot be understood: {type(error).__name__}: {error}"
        return
    found.rows += sum(map(len, verified.answers.values()))
    scored[entry.run.signature] = verified.numbers
    yield from verified.findings
    yield from _result_faults(entry)


def _result_faults(entry: RunResult) -> Iterator[str]:
    """Whether result.json is of this run."""
    run, result = entry.run, entry.result
    if result is None:
        yield "result.json is damaged"
        return
    expected = {
        "signature": run.signature, "variant": run.config.variant, "tasks": list(run.config.data.tasks),
        "seed": run.config.seed,
    }  # fmt: skip
    for key, value in expected.items():
        if result.get(key, value) != value:
            yield f"result.json: {key} is {result[key]!r}, and the run's is {value!r}"
    read, told = try_record(entry.folder / "inputs.json"), result.get("inputs")
    if read and isinstance(told, dict):
        for key in ("rows", "base_model"):
            if read.get(key) != told.get(key):
                yield f"inputs.json: {key} differs from that in result.json"


def _as_scored(entry: RunResult, numbers: Mapping[Key, float]) -> RunResult:
    """The run with the numbers that its answers give, whatever its result.json says."""
    if entry.result is None:
        return entry
    result = copy.deepcopy(entry.result)
    for (split, task, metric), value in numbers.items():
        if task:
            result.setdefault(split, {}).setdefault(task, {})[metric] = value
        else:
            result[f"{split}_average"] = value
    return replace(entry, result=result)


def _check_report(folder: Path, planned: PlannedRuns, found: Verified) -> Iterator[str]:
    """Make the report again, and compare it."""
    try:
        data = make_report(planned.name, planned.runs, planned.rule, planned.columns)
        found.numbers = count_numbers(data)
        yield from report_faults(SweepFolder(folder).report, data, (str(folder), planned.place))
    except (HyperformerError, *_OF_CHANGED_FILES) as error:
        yield f"report: cannot be made again from these results: {type(error).__name__}: {error}"
