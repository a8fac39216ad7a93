"""What became of a stage's turn: ``gate.json`` in its sweep's folder.

A gate is a small job of SLURM between two stages. It looks at the runs before it, starts the stage, or says why not.
Of several gates of a stage only the newest acts: its token is in the record.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from hyperformer.files import write_json
from launchers.store.records import try_record

State = Literal["waits", "started", "blocked", "cancelled"]


@dataclass(frozen=True)
class GateRecord:
    """The last decision on a stage.

    Attributes:
        state: waits: a gate is in SLURM's queue, or about to be.
        why: what it waits for, or what stands in the way.
        target: the sweep file; runs_dir, cluster: as the command had them.
        stage: which one; 'report' after the last.
        token: of the gate that may act.
        file: hash of the sweep file as it was submitted.
        job_id: of the gate; None before SLURM has it.
        waited: wakes in a row at which nothing had changed.
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
