"""Run the tests in two halves side by side, each about as long: on two cores that is as quick as it gets.

    python tests/side_by_side.py [options of pytest]

The half that has the tests on a real SLURM, which mostly wait, prints when both are done. The exit code is not 0 if
one of them fails.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# One file of tests/training belongs to the other half, which would be shorter by minutes.
OTHER = Path("tests/training/test_run.py")
TRAINING = sorted(str(path) for path in Path("tests/training").rglob("test_*.py") if path != OTHER)
FIRST = ("tests/cluster", *TRAINING)


def main() -> int:
    pytest = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    # Ctrl-C goes to both halves, which end and clean up by themselves.
    signal.signal(signal.SIGINT, lambda *_: None)
    with tempfile.TemporaryFile() as log:
        first = subprocess.Popen([*pytest, *FIRST], stdout=log, stderr=subprocess.STDOUT)
        second = subprocess.Popen([*pytest, *(f"--ignore={path}" for path in FIRST)])
        codes = second.wait(), first.wait()
        log.seek(0)
        shutil.copyfileobj(log, sys.stdout.buffer)
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
