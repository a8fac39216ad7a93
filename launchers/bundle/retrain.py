"""Train the first steps of a bundled run again, with the installed code, and compare what it logs.

On the same kind of machine (``machine`` in inputs.json: device, torch, on a CPU its instructions and threads) with the
same transformers and DeepSpeed, the losses must be equal bit by bit. Elsewhere sums round otherwise, and on GPUs
dropout draws other numbers: there each loss must lie within :data:`BOUND`, which tells other data or other settings,
and no rounding.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.errors import ConfigError, HyperformerError, nearest
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.extras import version
from hyperformer.settings.values import settings
from launchers.bundle.planned_runs import PlannedRuns
from launchers.report.results import RunResult
from launchers.store.code_snapshot import python_path
from launchers.store.records import try_record

BOUND = 0.1
"""Relative difference of a loss that another kind of machine may give."""
STEPS = 20
_LOGGED = ("loss", "learning_rate", "gradient_norm", "skipped_steps")
"""What a line of training says, without times and memory."""
_COMPUTE = {"transformers", "deepspeed"}
"""Packages beside torch, by which sums may round otherwise."""
_POLL_S = 0.2
_TAIL = 15
Line = dict[str, Any]
Lines = dict[tuple[str, int], Line]
"""Lines of metrics.jsonl by split and step."""


@dataclass(frozen=True)
class Retrained:
    """What came of training a run again.

    Attributes:
        steps: that were compared.
        lines: of metrics.jsonl that were compared.
        why_bound: why losses need not be bit-identical; '': they must be.
        largest: relative difference of a loss.
        faults: what differs, a line each.
    """

    name: str
    steps: int
    lines: int
    why_bound: str
    largest: float
    faults: tuple[str, ...]


def retrain(planned: PlannedRuns, name: str, steps: int, folder: Path, paths: Mapping[str, str]) -> Retrained:
    """Train a run of an unpacked bundle again.

    Args:
        steps: as many at least; the next logged one ends it.
        folder: is made, for the run's files.
        paths: settings that name files or folders, where these are elsewhere on this machine.

    Raises:
        HyperformerError: there is no such run, it cannot be trained here, or its training fails.
    """
    entry = _find(planned, name)
    recorded = _read_lines(RunFolder(entry.folder).metrics)
    logged = sorted(step for split, step in recorded if split == "train")
    if not logged:
        raise HyperformerError(f"{name}: its metrics.jsonl has no line of training to compare with")
    until = next((step for step in logged if step >= steps), logged[-1])
    run = RunFolder(folder)
    _train(_settings(entry, folder, paths), run, until, _threads(entry))
    again = {key: line for key, line in _read_lines(run.metrics).items() if key[1] <= until}
    why = _why_bound(entry, run)
    faults = [*_other_inputs(entry, run, planned)]
    largest = 0.0
    for key in sorted(key for key in recorded if key[1] <= until):
        if key[0] == "validation" and key[1] == until and key not in again:
            continue  # the run was stopped before it
        faults += _differences(key, recorded[key], again.get(key), exact=not why)
        largest = max(largest, _relative(recorded[key].get("loss"), again.get(key, {}).get("loss")))
    return Retrained(name, until, len(again), why, largest, tuple(faults))


def _find(planned: PlannedRuns, name: str) -> RunResult:
    found = next((entry for entry in planned.runs if entry.run.name == name), None)
    if found is None:
        names = [entry.run.name for entry in planned.runs]
        raise HyperformerError(f"--retrain {name}: the bundle has no such run{nearest(name, names)}")
    if found.result is None:
        raise HyperformerError(
            f"--retrain {name}: the run has no result to compare with ({found.status.state})"
        )
    ranks = found.result.get("ranks", 1)
    if ranks != 1:
        raise HyperformerError(
            f"--retrain {name}: it was trained on {ranks} ranks; this command trains on one"
        )
    return found


def _settings(entry: RunResult, folder: Path, paths: Mapping[str, str]) -> dict[str, Any]:
    """The run's flat settings, with this machine's paths."""
    record = RunFolder(entry.folder).read_record()
    if record is None:
        raise HyperformerError(f"--retrain {entry.run.name}: its config.json is missing")
    known = [key for key, one in settings().items() if one.path and key != "output_dir"]
    for key in paths:
        if key not in known:
            raise ConfigError(
                f"--set {key}: only settings that name a file or folder can be set{nearest(key, known)}"
            )
    return {**record["settings"], "cache_dir": None, **paths, "output_dir": str(folder)}


def _threads(entry: RunResult) -> int | None:
    """The threads that a run on a CPU had: with another number, sums round otherwise."""
    found = _machine(RunFolder(entry.folder)).get("threads")
    return found if type(found) is int and 0 < found < 1024 else None


def _machine(folder: RunFolder) -> dict[str, Any]:
    """Where the first steps of a run were trained; {} if that was not recorded."""
    return _mapping(_inputs(folder).get("machine"))


def _inputs(folder: RunFolder) -> dict[str, Any]:
    """What a run read; {} if that is not known."""
    return try_record(folder.inputs) or {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _train(flat: dict[str, Any], run: RunFolder, until: int, threads: int | None) -> None:
    """Train until a step is logged, or to the run's end."""
    command = [sys.executable, "-m", "hyperformer.finetune_t5_trainer", "--one-run", json.dumps(flat)]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    run.path.parent.mkdir(parents=True, exist_ok=True)
    log = run.path.parent / "retrain.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                if any(split == "train" and step >= until for split, step in _read_lines(run.metrics)):
                    process.send_signal(signal.SIGTERM)  # it saves, and ends
                    process.wait()
                    return  # by the signal, or well before it came
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-_TAIL:])
        raise HyperformerError(
            f"the training ended with exit code {process.returncode}:\n  {tail}\n"
            "If files are elsewhere on this machine, name them: --set data_dir=FOLDER"
        )


def _read_lines(path: Path) -> Lines:
    """The complete lines of a metrics.jsonl; of several for a step, the last."""
    found: Lines = {}
    with suppress(FileNotFoundError):
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError, RecursionError, OverflowError):
                line = json.loads(text)
                found[str(line["split"]), int(line["step"])] = line
    return found


def _why_bound(entry: RunResult, run: RunFolder) -> str:
    """Why the losses need not be bit-identical to those of the bundle."""
    then, now = _machine(RunFolder(entry.folder)), _machine(run)
    if not then:
        return "it was not recorded on what machine the run was trained"
    versions = _mapping((entry.result or {}).get("versions"))
    for name in _COMPUTE & versions.keys():
        then, now = {**then, name: versions[name]}, {**now, name: version(name)}
    differs = [
        f"{key} {then.get(key)} there, {now.get(key)} here"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]
    if differs:
        return f"another kind of machine, or other libraries ({'; '.join(differs)})"
    if "cuda" in then and not entry.run.config.training.deterministic:
        return "a GPU adds in no fixed order unless `deterministic` is set"
    if (entry.result or {}).get("micro_batch_parts", 1) != 1:
        return "the run was continued with smaller micro-batches, for lack of memory"
    return ""


def _other_inputs(entry: RunResult, run: RunFolder, planned: PlannedRuns) -> Iterator[str]:
    """What this machine's files hold otherwise than those that the run read."""
    record = run.read_record() or {}
    if entry.run.signature not in planned.legacy and record.get("signature") != entry.run.signature:
        yield (
            f"the files that its settings name hold something else here: its signature becomes "
            f"{record.get('signature')}, not {entry.run.signature}"
        )
    then, now = _inputs(RunFolder(entry.folder)), _inputs(run)
    here = _mapping(now.get("rows"))
    for name, rows in sorted(_mapping(then.get("rows")).items()):
        if here.get(name) != rows:
            yield f"the rows of {name} are {here.get(name)} here, and were {rows}"
    if then.get("base_model") != now.get("base_model"):
        yield "the weights of the base model are others here"


def _differences(key: tuple[str, int], then: Line, now: Line | None, exact: bool) -> Iterator[str]:
    """What one line of metrics.jsonl says otherwise."""
    where = f"{key[0]} step {key[1]}"
    if now is None:
        yield f"{where}: the run has such a line, and its training again has none"
    elif exact:
        names = [name for name in _LOGGED if name in then] if key[0] == "train" else list(then)
        for name in names:
            if repr(then[name]) != repr(now.get(name)):
                yield f"{where}: {name} is {then[name]!r} in the bundle, {now.get(name)!r} trained again"
    else:
        found = _relative(then.get("loss"), now.get("loss"))
        if found > BOUND:
            told = f"{then.get('loss')!r} in the bundle, {now.get('loss')!r} trained again"
            yield f"{where}: loss is {told}: {found:.0%} apart"


def _relative(then: Any, now: Any) -> float:
    """By how much a loss differs, as a share of itself; infinite if only one is a number."""
    if repr(then) == repr(now):
        return 0.0
    try:
        found = abs(float(now) - float(then)) / abs(float(then))
    except (TypeError, ValueError, ZeroDivisionError):
        return math.inf
    return math.inf if math.isnan(found) else found
