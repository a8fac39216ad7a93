"""race.json in a run's folder: the step at which a race of settings wants the run paused. Imports no torch.

The launcher writes it before the run starts, and again when the run moves on. Its setting is judged by what the run
would keep if it ended there.
"""

from __future__ import annotations

from hyperformer.errors import ConfigError, FileError
from hyperformer.files import read_json, write_json
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.settings.schema import RunConfig


def read_pause(folder: RunFolder) -> int | None:
    """The step to pause at; None: the run trains to its end.

    Raises:
        FileError: the file is damaged.
    """
    record = read_json(folder.race)
    if record is None:
        return None
    step = record.get("pause_at", "") if isinstance(record, dict) else ""
    if step is not None and (type(step) is not int or step < 1):
        raise FileError(f"{folder.race} is damaged; remove it, and the next submit writes a new one")
    return step


def write_pause(folder: RunFolder, step: int | None) -> None:
    """Have the run pause at a step from its next start on; None: train to its end."""
    write_json(folder.race, {"pause_at": step})


def check_pause(config: RunConfig, step: int | None) -> None:
    """See that a run can pause at a step.

    Raises:
        ConfigError: no validation follows that step.
    """
    if step is not None and (not config.validates or step < 1 or step % config.training.eval_steps):
        raise ConfigError(
            f"pause_at is {step}, but a run pauses after a validation: write a multiple of eval_steps "
            f"({config.training.eval_steps}), with do_eval: true"
        )
