"""What a job starts when its runs have ended: ``python -m launchers.renew FOLDER``, with the folder of the sweep.

It draws the page of the report again, or leaves that to another job. Best effort: it always ends well, and says in
one line why it did not draw.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hyperformer.errors import HyperformerError, describe_os_error
from hyperformer.terminal import prepare_streams
from launchers.report import page_redraw
from launchers.slurm.this_job import own_id
from launchers.store.sweep_folder import SweepFolder

# The batch script ends it after 120 s. One that is ended before can still write down how long it took.
_LIMIT_S = 110


def main(folder: Path) -> None:
    """Renew the page of the sweep whose folder this is."""
    prepare_streams()
    os.nice(19)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # SLURM ends the job: it does not wait for a page
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_LIMIT_S)
    by = f"job {own_id()}" if "SLURM_JOB_ID" in os.environ else "submit"
    paths = SweepFolder(folder)
    try:
        page_redraw.request(paths)
        if page_redraw.is_due(paths):
            # scipy, for the statistics: not where another one draws
            from launchers.renew.renewal import renew

            renew(paths, by)
    except Exception as error:
        text = describe_os_error(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        print(f"{paths.report}: the page was not renewed ({text}); `report` writes it", flush=True)


def _too_long(signum: int, frame: FrameType | None) -> NoReturn:
    raise HyperformerError(f"it took more than {_LIMIT_S} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
