"""``held.json``: a sweep is held when too many of its runs fail in the same way, as the others would too.

::

    runs/<sweep>/failures/<fingerprint>/<run folder's name>    a run that failed with this traceback
    runs/<sweep>/held.json                                     why no more runs start

Jobs check held.json when they start. The next `submit` or `retry` removes both.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hyperformer.errors import clip
from hyperformer.files import write_json
from launchers.plan.failure_kinds import Failure
from launchers.plan.retry_policy import RetryPolicy
from launchers.store.records import LedgerError, read_record
from launchers.store.sweep_folder import SweepFolder

_RECENT_S = 24 * 3600.0


def count_failure(run_folder: Path, failure: Failure, policy: RetryPolicy) -> None:
    """Count a run's failure; hold the sweep if it is one too many. Safe with many jobs at once.

    Failures without a known cause have nothing in common, and those of long ago had their own.
    """
    if not failure.fingerprint:
        return
    sweep = SweepFolder.of_run(run_folder)
    same = sweep.failures / failure.fingerprint
    same.mkdir(parents=True, exist_ok=True)
    (same / run_folder.name).touch()
    since = time.time() - _RECENT_S
    names = sorted(entry.name for entry in same.iterdir() if entry.stat().st_mtime > since)
    if policy.stop_after and len(names) >= policy.stop_after and not sweep.held_file.exists():
        reason = f"{len(names)} runs failed alike: {failure.message}"
        write_json(sweep.held_file, {"reason": clip(reason, 500), "runs": names, "at": time.time()})


def reason(sweep: SweepFolder) -> str | None:
    """Why the sweep is held, or None if it is not."""
    try:
        record: dict[str, Any] | None = read_record(sweep.held_file)
    except LedgerError as error:
        return str(error)
    return None if record is None else str(record.get("reason", "its held.json says so"))


def release(sweep: SweepFolder, run_folders: Iterable[Path]) -> None:
    """The user starts runs again: forget these runs' failures, and that the sweep is held."""
    sweep.held_file.unlink(missing_ok=True)
    names = {folder.name for folder in run_folders}
    for same in sweep.failures.glob("*"):
        if all(entry.name in names for entry in same.iterdir()):
            shutil.rmtree(same, ignore_errors=True)
        else:
            for name in names:
                (same / name).unlink(missing_ok=True)
