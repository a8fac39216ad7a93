"""The last decision on a stage, or on a race: ``gate.json`` in its sweep's folder.

A gate is a small job of SLURM between two stages. It checks the runs before it, starts the stage, or says why not.
The gate of a race compares its settings, and starts the runs that move on. Of several gates of a stage or race only
the newest acts: its token is in the record.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from hyperformer.files import write_json
from launchers.store.records import try_record

State = Literal["waits", "started", "blocked", "cancelled", "over"]
RACE = ":race"
"""Instead of a stage's name: no stage can be named so."""


@dataclass(frozen=True)
class GateRecord:
    """The last decision on a stage.

    Attributes:
        state: waits: a gate is in SLURM's queue, or about to be; over: of a race, nobody can move on.
        why: what it waits for, or what stands in the way.
        target: the sweep file; runs_dir, cluster: as the command had them.
        stage: which one; 'report' after the last; RACE: none, it is the gate of a race.
        token: of the gate that may act.
        file: hash of the sweep file as it was submitted.
        job_id: of the gate; None before SLURM has it.
        waited: checks in a row at which nothing had changed.
    """

    state: State
    stage: str
    why: str = ""
    target: str = ""
    runs_dir: str = ""
    cluster: str = ""
    token: str = ""
    file: str = ""
    job_id: str | None = None
    slurm_cluster: str | None = None
    jobs: tuple[str, ...] = ()
    waited: int = 0
    max_parallel: int | None = None
    ignored: tuple[str, ...] = ()
    at: float = 0.0


def read(path: Path) -> GateRecord | None:
    """The record; None: there is none, or it cannot be read."""
    values = try_record(path)
    known = {item.name for item in fields(GateRecord)}
    if not values or not {"state", "stage"} <= values.keys():
        return None
    lists = {key: tuple(values[key]) for key in ("jobs", "ignored") if isinstance(values.get(key), list)}
    return GateRecord(**{key: values[key] for key in known & values.keys()} | lists)


def write(path: Path, record: GateRecord) -> GateRecord:
    """Write it, atomically; returns it as written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = replace(record, at=time.time())
    write_json(path, {"schema": 1, **asdict(record)})
    return record


def gate_file(sweep: Path) -> Path:
    """Where the last decision is, by the sweep's folder."""
    return sweep / "gate.json"


def file_hash(text: str) -> str:
    """Of the text of a sweep file, and of those that it extends."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
