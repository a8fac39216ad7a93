"""What starts a run: a job of SLURM, or the queue of this machine.

python -m launchers.job RECORD              the runs of this task of the array
python -m launchers.job RECORD TASK SLOT    one of the runs that share a job, in a process of its own
python -m launchers.job --local ATTEMPT     one attempt at a run on this machine; ATTEMPT is its folder
"""

from __future__ import annotations

import sys

from launchers.job.attempt import run_local, run_packed, run_submitted

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--local", attempt]:
            run_local(attempt)
        case [record]:
            run_submitted(record)
        case [record, index, slot]:
            run_packed(record, int(index), int(slot))
        case words:
            sys.exit(f"launchers.job: {len(words)} words, see {__file__}")
