"""What a job of SLURM starts.

python -m launchers.job RECORD              the runs of this task of the array
python -m launchers.job RECORD TASK SLOT    one of the runs that share a job, in a process of its own
"""

from __future__ import annotations

import sys

from launchers.job.attempt import run_packed, run_submitted

if __name__ == "__main__":
    if len(sys.argv) == 2:
        run_submitted(sys.argv[1])
    else:
        run_packed(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
