"""What a launcher can change between two attempts at a run, without making it another run. Imports no torch.

A run that ran out of memory resumes with smaller micro-batches (:func:`split_micro_batch`) or with fewer
rows per forward of an evaluation (:func:`halve_evaluation`), one that diverged from an earlier checkpoint
(:func:`step_back`). None of them changes the run's signature, its global batch or its answers. The run itself
and the launcher may both ask for the same: what was changed since the failed attempt began is not changed again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from hyperformer.errors import CheckpointError, ConfigError, FileError
from hyperformer.files import read_json, write_json
from hyperformer.run_files.checkpoint_folder import CheckpointFolder
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.schema import EVAL_ROWS

SCHEMA = 1


@dataclass(frozen=True)
class Recovery:
    """Content of recovery.json.

    Attributes:
        micro_batch_parts: forwards that share the rows of one micro-batch of the settings.
        eval_rows: the most rows that a forward of an evaluation takes; None: a batch of the settings.
        schema: of the file.
    """

    micro_batch_parts: int = 1
    eval_rows: int | None = None
    schema: int = SCHEMA

    @property
    def is_valid(self) -> bool:
        """Whether this version can have written it."""
        numbers = (self.micro_batch_parts, 1 if self.eval_rows is None else self.eval_rows)
        return self.schema == SCHEMA and all(type(number) is int and number >= 1 for number in numbers)


def read_recovery(folder: RunFolder) -> Recovery:
    """What was changed for this run; the defaults if there is no recovery.json.

    Raises:
        FileError: the file is damaged.
    """
    values = read_json(folder.recovery)
    if values is None:
        return Recovery()
    try:
        recovery = Recovery(**values)
    except (TypeError, ValueError) as error:
        raise FileError(f"{folder.recovery} is damaged ({error}); remove it") from error
    if not recovery.is_valid:
        raise FileError(f"{folder.recovery} is damaged, or of another version; remove it")
    return recovery


def _write(folder: RunFolder, recovery: Recovery) -> None:
    """Leave out what is unset, which an earlier version does not know."""
    values = {key: value for key, value in dataclasses.asdict(recovery).items() if value is not None}
    write_json(folder.recovery, values)


def record_eval_rows(folder: RunFolder, rows: int) -> None:
    """Keep that a forward of an evaluation takes so many rows at most."""
    recovery = read_recovery(folder)
    if recovery.eval_rows is None or rows < recovery.eval_rows:
        _write(folder, dataclasses.replace(recovery, eval_rows=rows))


def halve_evaluation(folder: RunFolder, tried: int | None = None) -> str:
    """Halve the rows per forward of an evaluation in the next attempt.

    Args:
        tried: the most rows that the failed attempt tried; None: a batch of the settings.

    Returns:
        A line that says what was done.

    Raises:
        ConfigError: it is one row already.
    """
    batch = folder.read_config().training.per_device_eval_batch_size or EVAL_ROWS
    tried = min(batch, tried or batch)
    if tried == 1:
        raise ConfigError(f"{folder.path}: an evaluation takes one row per forward already")
    rows = -(-tried // 2)
    record_eval_rows(folder, rows)
    return f"evaluation split: {rows} rows per forward instead of {tried}; the answers stay the same"


def split_micro_batch(folder: RunFolder, tried: int | None = None) -> str:
    """Halve the micro-batch of the next attempt: half the rows per forward, twice as many forwards.

    An odd number of rows is divided by its smallest divisor above 1.

    Args:
        tried: `micro_batch_parts` of the failed attempt; None: what recovery.json says.

    Returns:
        A line that says what was done.

    Raises:
        ConfigError: a micro-batch of one row cannot be split.
    """
    config, recovery = folder.read_config(), read_recovery(folder)
    parts = tried or recovery.micro_batch_parts
    rows = config.training.per_device_train_batch_size // parts
    if rows <= 1:
        checkpointing = "" if config.training.gradient_checkpointing else ", gradient_checkpointing=true"
        raise ConfigError(
            f"{folder.path}: the micro-batch is one row already; use a GPU with more memory, a smaller model, "
            f"a smaller max_source_length{checkpointing}"
        )
    divisor = next(number for number in range(2, rows + 1) if rows % number == 0)
    splits = parts * divisor
    if recovery.micro_batch_parts < splits:
        _write(folder, dataclasses.replace(recovery, micro_batch_parts=splits))
    steps = config.training.gradient_accumulation_steps
    return (
        f"micro-batch split: {rows // divisor} rows instead of {rows}, gradient accumulation "
        f"{steps * splits} instead of {steps * parts}; the global batch stays the same"
    )


def step_back(folder: RunFolder) -> str:
    """Rename the newest checkpoint, so that the next attempt resumes from the one before it.

    Nothing is deleted.

    Returns:
        A line that says what was done, and where the checkpoint is now.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    checkpoints = CheckpointFolder(folder.checkpoints)
    name = checkpoints.newest()
    if name is None:
        raise CheckpointError(f"{folder.checkpoints} has no checkpoint to step back from")
    renamed = checkpoints.retire(name, "diverged")
    before = checkpoints.newest()
    checkpoints.set_latest(before)
    return f"{name} was renamed to {renamed}; the next start resumes from {before or 'the beginning'}"
