"""``runs.json`` of a bundle: the planned runs and their states, as the report needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hyperformer.errors import FileError
from hyperformer.settings.yaml_source import YamlNode
from launchers.bundle.archive import read_bundled
from launchers.plan.model_selection.rule import Number, SelectionRule
from launchers.plan.plan import Plan, Run
from launchers.plan.resources import Resources
from launchers.report.results import RunResult
from launchers.status.run_status import STATES, RunStatus
from launchers.store.ledger import Ledger
from launchers.store.records import try_record
from launchers.store.submissions import QueuedRun

RUNS = "runs.json"


@dataclass(frozen=True)
class PlannedRuns:
    """What :data:`RUNS` says.

    Attributes:
        name: of the sweep.
        place: the sweep's folder, as the report names it.
        rule: which settings the report chooses.
        runs: with their results; the folder of each is in the unpacked bundle.
        columns: of the tables, the first ones.
        legacy: signatures of runs that are known by another signature than that of their settings.
    """

    name: str
    place: str
    rule: SelectionRule | None
    runs: tuple[RunResult, ...]
    columns: tuple[str, ...]
    legacy: frozenset[str]


def describe(plan: Plan, ledger: Ledger, statuses: Sequence[RunStatus]) -> dict[str, Any]:
    """The content of :data:`RUNS`; `statuses` are of the plan's runs, in order."""
    runs = []
    for run, status in zip(plan.runs, statuses, strict=True):
        entry = asdict(QueuedRun.of(run, ledger.folder(run).name, 1))
        entry["differs"] = [list(pair) for pair in run.differs]
        entry["status"] = {"state": status.state, "detail": status.detail, "kind": status.kind}
        runs.append(entry)
    rule = plan.select
    chosen = rule and {"over": list(rule.over), "number": asdict(rule.number), "per_task": rule.per_task}
    said = {"name": plan.name, "folder": str(ledger.path), "select": chosen, "columns": list(plan.columns)}
    return said | {"runs": runs}


def read_runs(folder: Path) -> PlannedRuns:
    """The runs of an unpacked bundle.

    Raises:
        FileError: :data:`RUNS` is missing or damaged.
        HyperformerError: a run has impossible settings, or those of another run.
    """
    record = read_bundled(folder / RUNS)
    try:
        entries = [_read(folder, entry) for entry in record["runs"]]
        legacy = frozenset(entry["signature"] for entry in record["runs"] if entry["is_known"])
        rule = _rule(record["select"]) if record["select"] else None
        columns = tuple(map(str, record.get("columns", ())))  # earlier versions had none
        return PlannedRuns(str(record["name"]), str(record["folder"]), rule, tuple(entries), columns, legacy)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{RUNS} is damaged: {type(error).__name__}: {error}") from error


def _read(folder: Path, entry: dict[str, Any]) -> RunResult:
    fields = ("signature", "name", "folder", "attempt", "settings", "contents", "is_known")
    queued = QueuedRun(**{key: entry[key] for key in fields})
    place, status = folder / queued.folder, entry["status"]
    if place.parent != folder or status["state"] not in STATES or not queued.name.isprintable():
        raise ValueError(
            f"{queued.name!a} has the folder {queued.folder!r} and the state {status['state']!r}"
        )
    config = queued.config(place)
    differs = tuple((str(key), str(value)) for key, value in entry["differs"])
    run = Run(queued.name, queued.signature, config, differs, Resources())
    stood = RunStatus(
        queued.name, queued.signature, str(place), status["state"], str(status["detail"]), kind=status["kind"]
    )
    result = try_record(place / "result.json") if stood.state == "done" else None
    return RunResult(run, stood, result)


def _rule(record: dict[str, Any]) -> SelectionRule:
    number = Number(**record["number"])
    place = YamlNode(None, 0, "select", RUNS)
    return SelectionRule(tuple(map(str, record["over"])), number, bool(record["per_task"]), place)
