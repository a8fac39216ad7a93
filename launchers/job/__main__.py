"""One of the runs that share a job, in a process of its own: ``python -m launchers.job RECORD TASK PLACE``."""

from __future__ import annotations

import sys

from launchers.job.attempt import run_packed

if __name__ == "__main__":
    run_packed(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
