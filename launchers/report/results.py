"""The result of each planned run, and what the runs of a table do not have in common though they should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hyperformer.settings.build import flatten
from hyperformer.settings.values import settings
from launchers.plan.model_selection.choose import Metrics, Validation
from launchers.plan.plan import Run
from launchers.status.run_status import RunStatus
from launchers.store.ledger import Ledger
from launchers.store.records import LedgerError, read_record


@dataclass(frozen=True)
class RunResult:
    """A planned run and what came of it. `result`: its result.json, if it is done."""

    run: Run
    status: RunStatus
    result: dict[str, Any] | None

    @property
    def folder(self) -> Path:
        """The run's folder, which need not be there."""
        return Path(self.status.folder)

    def metrics(self, split: str) -> Metrics:
        """task -> metric -> percent."""
        return (self.result or {}).get(split) or {}

    def on(self, split: str) -> Validation:
        """Its numbers on a split, as settings are scored by them."""
        metrics = None if self.result is None else self.metrics(split)
        is_left = self.status.state == "paused"
        return Validation(self.run, metrics, self.state, self.status.kind == "diverged", is_left)

    @property
    def state(self) -> str:
        """The run's state, in words."""
        if self.status.state == "paused":
            return f"left {self.status.detail}"
        return self.status.state


def collect(ledger: Ledger, statuses: Sequence[RunStatus]) -> list[RunResult]:
    """Read the results of the plan's runs; `statuses` are theirs, in order."""
    return [
        _read(run, status, ledger.folder(run) / "result.json")
        for run, status in zip(ledger.plan.runs, statuses, strict=True)
    ]


def _read(run: Run, status: RunStatus, path: Path) -> RunResult:
    """A run that is done and whose result cannot be read now counts as unknown, and says why."""
    if status.state != "done":
        return RunResult(run, status, None)
    try:
        result, why = read_record(path), f"{path} is missing"
    except LedgerError as error:
        result, why = None, str(error)
    return RunResult(run, status if result else replace(status, state="unknown", detail=why), result)


def early_stops(entries: Sequence[RunResult]) -> Iterator[str]:
    """The runs that `early_stop` ended, in a line; runs.csv has the steps of all."""
    stopped = [
        f"{entry.run.name} ({entry.result.get('steps')} steps)"
        for entry in entries
        if entry.result is not None and entry.result.get("stopped_early")
    ]
    if stopped:
        more = f" and {len(stopped) - 6} more" if len(stopped) > 6 else ""
        yield f"early_stop ended runs before their last step: {', '.join(stopped[:6])}{more}."


def one_class_runs(entries: Sequence[RunResult]) -> Iterator[str]:
    """The runs that did not learn to tell the classes of a task apart, a line each, with these tasks.

    What counts is the checkpoint that was kept, whose test results the table has; then the last validation.
    """
    for entry in entries:
        found = (entry.result or {}).get("one_class") or {}
        kept, last = found.get("kept") or {}, found.get("last") or {}
        others = {task: answer for task, answer in last.items() if task not in kept}
        told = [
            f"in the {when} {', '.join(f'{task} {answer!r}' for task, answer in tasks.items())}"
            for when, tasks in (("kept checkpoint", kept), ("last validation", others))
            if tasks
        ]
        if told:
            yield f"{entry.run.name}: every validation row of a task is answered with one class: {'; '.join(told)}."


def mixed_versions(entries: Sequence[RunResult]) -> Iterator[str]:
    """The versions of code and libraries that runs do not share, a line for each package."""
    found: dict[str, Counter[str]] = {}
    for result in (entry.result for entry in entries if entry.result is not None):
        versions = {
            "HyperFormer (git commit)": (result.get("git_commit") or "")[:10],
            **(result.get("versions") or {}),
        }
        for name, version in versions.items():
            if version and name != "datasets":  # it reads rows, and these are compared
                found.setdefault(name, Counter())[str(version)] += 1
    for name, runs in found.items():
        if len(runs) > 1:
            told = [
                f"{version} ({count} run{'s' if count > 1 else ''})" for version, count in runs.most_common(6)
            ]
            more = f" and {len(runs) - 6} more" if len(runs) > 6 else ""
            yield f"The runs were made with different versions of {name}: {', '.join(told)}{more}."


def mixed_inputs(entries: Sequence[RunResult]) -> Iterator[str]:
    """What runs with the same model and data settings did not have in common, though they should.

    The rows of a hub data set, or a model's weights, may have changed between two runs, or the kind of device;
    each run has recorded what it read (``inputs`` in result.json) and how it computed (``numerics``).
    """
    found: dict[tuple[Any, str], dict[str, list[str]]] = {}
    for entry in entries:
        inputs = (entry.result or {}).get("inputs") or {}
        read = {f"the rows of {name}": rows for name, rows in inputs.get("rows", {}).items()}
        if inputs.get("base_model"):
            read["the weights of the base model"] = inputs["base_model"]
        if inputs.get("global_batch_size"):
            rows = entry.run.config.training.rows_per_rank
            read[f"the global batch ({rows} rows per rank)"] = inputs["global_batch_size"]
        if entry.result is not None and entry.run.config.training.tf32:
            # The device decides, and versions before the setting did not use TF32.
            read["the format of float32 products (TF32 or not)"] = entry.result.get("numerics", {}).get(
                "tf32", False
            )
        source = _source(entry.run)
        for what, value in read.items():
            found.setdefault((source, what), {}).setdefault(str(value), []).append(entry.run.name)
    for (_, what), runs_by_value in found.items():
        if len(runs_by_value) > 1:
            groups = sorted(runs_by_value.values(), key=len)
            others = "; ".join(", ".join(names) for names in groups[:-1])
            yield f"{what} changed between runs: {others} had others than {', '.join(groups[-1])}"


def unknown_inputs(entries: Sequence[RunResult]) -> Iterator[str]:
    """Runs of which it is not known what they read, beside runs of which it is.

    Versions before ``inputs`` recorded none; a run that began under one has its steps since then.
    """
    results = [(entry.run.name, entry.result) for entry in entries if entry.result is not None]
    without = [name for name, result in results if not result.get("inputs")]
    partly = [name for name, result in results if "inputs_unknown_before_step" in result]
    if without and len(without) < len(results):
        yield f"it was not recorded which rows and weights {', '.join(without)} read, as it was for other runs"
    if partly:
        yield f"it was not recorded which rows and weights the first steps of {', '.join(partly)} read"


def _source(run: Run) -> tuple[Any, ...]:
    """The settings that say what a run reads."""
    flat = flatten(run.config)
    keys = [key for key, item in settings().items() if item.section in ("model", "data") and item.result]
    # What a run starts from does not change which rows it reads, nor which T5 lies below.
    others = ("tasks", "init_from", "init_tasks")
    return (run.config.task_prefix, *(flat[key] for key in keys if key not in others))
