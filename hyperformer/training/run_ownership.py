"""A run's folder while a job trains the run: only one job does; state.json says that it started, or why it failed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from hyperformer.data.contents import Contents
from hyperformer.errors import Interrupted, Paused
from hyperformer.run_files.recovery import Recovery
from hyperformer.run_files.run_folder import RunFolder, RunState
from hyperformer.run_files.run_lock import hold
from hyperformer.settings.schema import RunConfig, TrainingConfig
from hyperformer.training.log import say
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.ranks.timeouts import explain_hangs


@contextmanager
def own_folder(folder: RunFolder, context: DistributedContext) -> Iterator[None]:
    """Make the run's folder and hold its lock, on rank 0; the other ranks are told if that fails.

    Raises:
        RunInUse: another process trains this run.
    """
    with ExitStack() as held:

        def take() -> None:
            folder.make()
            held.enter_context(hold(folder.path))

        context.on_main(take)
        yield


def claim_folder(folder: RunFolder, config: RunConfig) -> dict[str, Any] | None:
    """Check that the folder is this run's, or free; returns result.json of a run that is done.

    Raises:
        ConfigError: it is another run's.
    """
    folder.claim(config)
    result = folder.read_result()
    missing = Contents().missing(config) if result is not None else []
    if missing:
        say(f"files that cannot be read here count as unchanged: {', '.join(missing)}")
    return result


def record_start(folder: RunFolder, settings: TrainingConfig, recovery: Recovery) -> None:
    """Write state.json of a run that loads its data and model."""
    folder.write_state(
        RunState(
            "starting",
            max_steps=0 if settings.num_train_epochs else settings.max_steps,
            started=time.time(),
            micro_batch_parts=recovery.micro_batch_parts,
            eval_rows=recovery.eval_rows,
        )
    )


@contextmanager
def record_failure(folder: RunFolder, context: DistributedContext) -> Iterator[None]:
    """Leave the reason of a failure in state.json; a disk too full for that must not hide the reason itself."""
    try:
        with explain_hangs(folder, context.rank):
            yield
    except (Interrupted, Paused):
        raise
    except BaseException as error:
        if context.is_main:
            try:
                before = folder.read_state() or RunState("starting")
                folder.write_state(before.failed(f"{type(error).__name__}: {error}"))
            except (OSError, ValueError, TypeError) as second:
                print(f"state.json could not be written: {second}", file=sys.stderr)
        raise
