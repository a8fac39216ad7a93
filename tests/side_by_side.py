"""Run the tests in two halves side by side: those on a real SLURM mostly wait, and the others compute.

    python tests/side_by_side.py [options of pytest]

What the first half prints comes after the second. The exit code is not 0 if one of them fails.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile


def main() -> int:
    pytest = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    # Ctrl-C goes to both halves, which end and clean up by themselves.
    signal.signal(signal.SIGINT, lambda *_: None)
    with tempfile.TemporaryFile() as log:
        on_slurm = subprocess.Popen([*pytest, "tests/cluster"], stdout=log, stderr=subprocess.STDOUT)
        others = subprocess.Popen([*pytest, "--ignore=tests/cluster"])
        codes = others.wait(), on_slurm.wait()
        log.seek(0)
        shutil.copyfileobj(log, sys.stdout.buffer)
    return next(filter(None, codes), 0)


if __name__ == "__main__":
    sys.exit(main())
