"""What the job between two stages, or two checks of a race, starts: ``python -m launchers.stages GATE.JSON TOKEN``."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from hyperformer.errors import HyperformerError
from hyperformer.terminal import prepare_streams, print_error
from launchers.api import QuietCallbacks
from launchers.slurm.commands import ClusterError
from launchers.stages.advance import advance_from_gate
from launchers.stages.race import continue_race
from launchers.stages.study import Study
from launchers.stages.study_report import write_study_page
from launchers.store.lock import LockError
from launchers.submit.gate import record
from launchers.submit.gate.record import RACE, GateRecord

# SLURM may be away, and somebody else may be submitting: that passes. The job itself has 30 minutes.
_PATIENCE_S, _PAUSE_S = 20 * 60.0, 30.0


def main(path: str, token: str) -> int:
    """Start what may start next of the stages, or of the race; returns the exit code."""
    prepare_streams()
    gate = record.read(Path(path))
    if gate is None or gate.token != token or gate.state != "waits":
        print(f"{path}: a newer gate has replaced this one")
        return 0
    try:
        print(_start_next(gate))
    except HyperformerError as error:
        print_error(error)
        now = record.read(Path(path))
        if now is not None and now.token == token:  # nobody else has decided meanwhile
            record.write(Path(path), replace(gate, state="blocked", why=str(error)))
        return 2
    study = Study(gate.target, Path(gate.runs_dir), gate.cluster)
    for stage in study.names:
        sweep = study.open(stage)
        view = sweep.view()
        if view.has_begun:
            print(f"report: {sweep.report(view)[0]}")
    page = write_study_page(study, "the gate")
    if page:
        print(f"all stages: {page}")
    return 0


def _start_next(gate: GateRecord) -> str:
    """Start what may start next, and try again while SLURM or another submit is busy; returns what was done."""
    act = continue_race if gate.stage == RACE else _next_stages
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return act(gate)
        except (ClusterError, LockError) as error:
            if time.monotonic() > end:
                raise
            print(f"{error}; trying again in {_PAUSE_S:.0f} s", flush=True)
            time.sleep(_PAUSE_S)


def _next_stages(gate: GateRecord) -> str:
    found = advance_from_gate(gate, lambda sweep: QuietCallbacks(yes=True))
    return "all stages are done" if found.stage is None else f"{found.stage}: {found.verdict.why}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
