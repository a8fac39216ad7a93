"""Runs that are done, and that the sweep file now wants with more steps: they resume where they ended.

``extend`` gives the folder of such a run to the longer one; the next submit continues it
(:meth:`hyperformer.run_files.run_folder.RunFolder.claim` has the rule when that is exact).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hyperformer.errors import HyperformerError
from hyperformer.run_files.checkpoint_folder import CheckpointFolder
from hyperformer.run_files.run_folder import RunFolder, can_be_longer
from hyperformer.run_files.run_lock import hold
from hyperformer.settings.signature import signature
from launchers.plan.plan import Run
from launchers.store.attempts import Outcome
from launchers.store.ledger import Ledger
from launchers.store.lock import sweep_lock
from launchers.store.records import try_record


@dataclass(frozen=True)
class LongerRun:
    """A run of the plan that was never started, and the run with fewer steps that it continues.

    Attributes:
        shorter: signature of the run that is done.
        steps: its `max_steps`.
        stopped_early: why it ended before them, in words; '': it did not.
        why_not: why it cannot be continued; '': it can.
    """

    run: Run
    shorter: str
    folder: Path
    steps: int
    why_not: str = ""
    stopped_early: str = ""


def find_longer(ledger: Ledger, runs: Sequence[Run]) -> list[LongerRun]:
    """Those of the runs that continue a run which is done and no longer in the sweep file."""
    done = dict(_done_elsewhere(ledger))
    found = []
    for run in runs:
        if ledger.has_folder(run):
            continue
        fewer = {steps for _, steps in done.values() if steps < run.config.training.max_steps}
        for steps in sorted(fewer, reverse=True):
            shorter = next(
                (one for one in _signatures(run, steps) if one in done and done[one][1] == steps), None
            )
            if shorter:
                folder = done[shorter][0]
                found.append(
                    LongerRun(
                        run, shorter, folder, steps, _why_not(run, folder), _stopped_early(folder, steps)
                    )
                )
                break
    return found


def extend(ledger: Ledger, longer: Sequence[LongerRun]) -> None:
    """Give each run the folder of the shorter one, whose result is kept (:meth:`RunFolder.keep_result`).

    Raises:
        LockError, RunInUse: another process works on the sweep, or on one of these runs.
    """
    with sweep_lock(ledger.path):
        for one in longer:
            folder = RunFolder(one.folder)
            with hold(one.folder):
                if folder.result.exists():
                    folder.keep_result(one.steps)
            one.folder.rename(ledger.folder(one.run))
        ledger.refresh()
        ledger.commit(gone=[one.shorter for one in longer])
        for one in longer:
            why = f"made longer, from step {one.steps}"
            ledger.note_not_started(one.run, Outcome("stopped", why, kind="cancelled", then="end", why=why))


def _done_elsewhere(ledger: Ledger) -> Iterator[tuple[str, tuple[Path, int]]]:
    """Signature -> folder and steps, of runs that are done and not in the plan."""
    planned = {run.signature for run in ledger.plan.runs}
    for one, path in ledger.folders.items():
        with suppress(HyperformerError, OSError):  # a damaged run is nothing to continue
            record = RunFolder(path).read_record() if one not in planned else None
            steps = record["settings"].get("max_steps") if record else None
            folder = RunFolder(path)
            # The second: an `extend` that was killed between its two renames.
            if isinstance(steps, int) and (folder.result.exists() or folder.earlier_result(steps).exists()):
                yield one, (path, steps)


def _signatures(run: Run, steps: int) -> Iterator[str]:
    """Of the run with so many steps: with what its files hold, and as versions had it that did not hash that."""
    config = replace(run.config, training=replace(run.config.training, max_steps=steps), known_as=None)
    yield signature(config)
    yield signature(replace(config, contents=None))


def _why_not(run: Run, folder: Path) -> str:
    schedule = run.config.training.lr_scheduler
    if not can_be_longer(run.config):
        return (
            f"with lr_scheduler={schedule} each step's learning rate depends on max_steps: it is another run"
        )
    if CheckpointFolder(RunFolder(folder).checkpoints).newest() is None:
        return "it has no checkpoint any more (`clean` removes them): `submit` trains it from its first step"
    return ""


def _stopped_early(path: Path, steps: int) -> str:
    folder = RunFolder(path)
    result = try_record(folder.result) or try_record(folder.earlier_result(steps)) or {}
    return result.get("stopped_early") or ""
