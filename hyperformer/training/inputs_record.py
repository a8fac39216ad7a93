"""``inputs.json``: what a run reads is recorded when it begins, and must be the same when it resumes."""

from __future__ import annotations

from typing import Any

from hyperformer.errors import ConfigError, FileError
from hyperformer.files import read_json, write_json
from hyperformer.run_files.run_folder import RunFolder
from hyperformer.training.deepspeed_config.batch import Batch
from hyperformer.training.inputs import RunData
from hyperformer.training.numerics.machine import describe_machine

UNKNOWN_BEFORE = "inputs_unknown_before_step"


def run_inputs(data: RunData, batch: Batch, base_model: str | None) -> dict[str, Any]:
    """What a run reads, and on what machine, as it can be known only now: for ``inputs.json`` and ``result.json``.

    Args:
        base_model: hash of T5's weights; None: they start at random.
    """
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    rows = {
        f"{task} {split}": found.fingerprint
        for split, tasks in splits.items()
        for task, found in tasks.items()
    }
    return {
        "rows": rows,
        "base_model": base_model,
        "global_batch_size": batch.global_batch_size,
        "machine": describe_machine(),
    }


def record_inputs(folder: RunFolder, inputs: dict[str, Any], step: int | None) -> int | None:
    """Keep what a run reads; one that resumes must read the same.

    Args:
        step: where the run resumes; None: it begins.

    Returns:
        the step before which it is not known what the run read, for result.json; None: all is known.

    Raises:
        ConfigError: rows or weights changed since the run began.
    """
    before = read_json(folder.inputs) if step is not None else None
    if before is None:
        unknown = {UNKNOWN_BEFORE: step} if step else {}
        write_json(folder.inputs, inputs | unknown)
        return step or None
    if not isinstance(before, dict) or not isinstance(before.get("rows"), dict):
        raise FileError(
            f"{folder.inputs} is damaged; move it away: the run writes a new one, of what it reads now"
        )
    now, then = inputs["rows"], before["rows"]
    changed = [
        f"the rows of {name} (were {held}, are {now.get(name)})"
        for name, held in then.items()
        if now.get(name) != held
    ]
    if before.get("base_model") != inputs["base_model"]:
        changed.append("the weights of the base model")
    if before.get("init_from") != inputs.get("init_from"):
        changed.append("the weights that it starts from (init_from)")
    if changed:
        raise ConfigError(
            f"{folder.path}: the run cannot resume, because these changed since it began: {'; '.join(changed)}. Put "
            "back what was there; or, to train on what is there now, start another run (a new output_dir, or a new "
            "`name:` of the sweep)"
        )
    since = before.get(UNKNOWN_BEFORE)
    return since if isinstance(since, int) else None
