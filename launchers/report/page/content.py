"""What the page shows beside the tables and figures, as plain data."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from launchers.plan.failure_kinds import KINDS
from launchers.report.figures.series import device_hours
from launchers.report.results import RunResult
from launchers.store import attempts as store

GIB = 2**30


@dataclass(frozen=True)
class Failure:
    """Attempts that ended alike.

    Attributes:
        kind: of the failure, or the state of its run; `meaning`: in words.
        hours: that these attempts took, from start to end.
        runs: names, the first few; `example`: what one of them said.
    """

    kind: str
    meaning: str
    attempts: int
    hours: float
    runs: tuple[str, ...]
    example: str


def run_lines(runs: Sequence[RunResult], page_folder: Path) -> list[dict[str, Any]]:
    """A line per run, of its state, score, use, and links relative to the page."""
    return [_run_line(entry, page_folder) for entry in runs]


def _run_line(entry: RunResult, page_folder: Path) -> dict[str, Any]:
    run, result = entry.run, entry.result or {}
    memory = result.get("peak_memory_bytes")
    attempts = store.attempts(entry.folder)
    hours = device_hours(entry)
    logs = [attempt.logs[0] for attempt in attempts[-1:] if attempt.logs[0].exists()]
    return {
        "run": run.name,
        "variant": run.config.variant,
        "settings": " ".join(f"{key}={text}" for key, text in run.differs if key != "seed"),
        "seed": run.config.seed,
        "state": entry.status.display_state,
        "detail": entry.status.detail,
        "validation": result.get("validation_average"),
        "test": result.get("test_average"),
        "best_step": result.get("best_step"),
        "hours": hours,
        "asked_hours": run.resources.time / 60 * run.resources.nodes * max(1, run.resources.gpus_per_node),
        "memory": None if memory is None else memory / GIB,
        "asked_memory": run.resources.mem_gb or None,
        "attempts": len(attempts),
        "log": os.path.relpath(logs[0], page_folder) if logs else None,
    }


def failures(runs: Sequence[RunResult]) -> list[Failure]:
    """The attempts that did not end well, by kind, most costly first."""
    found: dict[str, list[tuple[str, float, str]]] = defaultdict(list)
    for entry in runs:
        for kind, hours, message in _failed_attempts(entry):
            found[kind].append((entry.run.name, hours, message))
    every = [
        Failure(
            kind,
            KINDS[kind].words if kind in KINDS else "",
            len(members),
            sum(hours for _, hours, _ in members),
            tuple(Counter(name for name, _, _ in members))[:8],
            next((message for _, _, message in members if message), ""),
        )
        for kind, members in found.items()
    ]
    return sorted(every, key=lambda one: -one.hours)


def _failed_attempts(entry: RunResult) -> Iterator[tuple[str, float, str]]:
    for attempt in store.attempts(entry.folder):
        outcome = attempt.read_outcome()
        if outcome is None or outcome.status == "done":
            continue
        began = attempt.read_started().get("started")
        hours = (outcome.ended - began) / 3600 if outcome.ended and began else 0.0
        yield outcome.kind or outcome.status, max(hours, 0.0), outcome.message


def provenance(runs: Sequence[RunResult]) -> dict[str, list[str]]:
    """Commit, versions, numerics and data fingerprints: each value with the number of runs that have it."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in runs:
        result = entry.result
        if result is None:
            continue
        found["code (commit)"][str(result.get("git_commit") or "not known")] += 1
        for name, version in (result.get("versions") or {}).items():
            found[name][str(version)] += 1
        inputs = result.get("inputs") or {}
        found["weights of the base model"][str(inputs.get("base_model") or "not recorded")] += 1
        for name, rows in (inputs.get("rows") or {}).items():
            found[f"rows: {name}"][str(rows)] += 1
    return {
        name: [
            f"{value}" + (f" ({count} runs)" if len(values) > 1 else "")
            for value, count in values.most_common()
        ]
        for name, values in found.items()
    }


@dataclass(frozen=True)
class Drawn:
    """Training rows of a task that the runs of a table's row drew.

    Attributes:
        runs: how many these are means of.
        share: of all draws, as the settings had it, in percent; `found`: as it came.
        passes: over the task's rows.
    """

    row: str
    task: str
    runs: int
    rows: float
    drawn: float
    share: float
    found: float
    passes: float


def drawn_rows(runs: Sequence[RunResult]) -> list[Drawn]:
    """What was drawn of each task, as means over the runs of a row that tell it."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
    for entry in runs:
        variant, differs = entry.run.row
        name = " ".join([variant, *(f"{key}={text}" for key, text in differs)])
        told = (entry.result or {}).get("drawn") or {}
        total = sum(one["drawn"] for one in told.values()) or 1
        for task, one in told.items():
            drawn = one["drawn"]
            values = (one["rows"], drawn, 100 * one["share"], 100 * drawn / total, drawn / one["rows"])
            found[name, task].append(values)
    means = {key: list(map(fmean, zip(*values, strict=True))) for key, values in found.items()}
    return [Drawn(*key, len(found[key]), *values) for key, values in means.items()]
