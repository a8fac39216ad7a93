"""What the job between two stages starts: ``python -m launchers.stages GATE.JSON TOKEN``."""

from __future__ import annotations

import sys
from pathlib import Path

from hyperformer.errors import HyperformerError
from hyperformer.terminal import prepare_streams
from launchers.api import QuietCallbacks
from launchers.stages import record
from launchers.stages.study import Study, next_look


def main(path: str, token: str) -> int:
    """Look at the stages; returns the exit code."""
    prepare_streams()
    gate = record.read(Path(path))
    if gate is None or gate.token != token or gate.state != "waits":
        print(f"{path}: another look has taken the place of this one")
        return 0
    try:
        found = next_look(gate, lambda sweep: QuietCallbacks(yes=True))
    except HyperformerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("all stages are done" if found.stage is None else f"{found.stage}: {found.verdict.why}")
    study = Study(gate.target, Path(gate.runs_dir), gate.cluster)
    for stage in study.names:
        sweep = study.open(stage)
        view = sweep.view()
        if view.has_begun:
            print(f"report: {sweep.report(view)[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
