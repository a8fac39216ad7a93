"""The files of one run, by name. Writers and readers of a run meet here. Imports no torch.

=================  ====================================================================
config.json        the flat settings of the run, hashes of what the files in them hold, and its signature
inputs.json        what the run read: rows, base model, global batch (hyperformer.training.inputs_record)
state.json         where the run is now (:class:`RunState`), rewritten every few seconds
metrics.jsonl      one line per logged step and per evaluation
result.json        written once, at the very end: metrics, parameters, times, versions
recovery.json      what a launcher changed after a failed attempt (hyperformer.run_files.recovery)
race.json          the step at which a race of settings wants the run paused (hyperformer.run_files.pause)
heartbeat          touched while the process lives (hyperformer.run_files.watchdog)
checkpoints/       what a resume needs (hyperformer.run_files.checkpoint_folder)
adapter/           what was trained, of the kept checkpoint (safetensors + config)
answers/           the answers that result.json's metrics were computed from (hyperformer.answers.files)
tensorboard/       the same numbers for TensorBoard
=================  ====================================================================
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hyperformer.errors import CheckpointError, FileError
from hyperformer.files import Entry, new_folder, read_json, write_json
from hyperformer.settings.build import flatten, make_config
from hyperformer.settings.precision import sums_in_float32, zero_stage
from hyperformer.settings.schema import CONSTANT_SCHEDULES, RunConfig
from hyperformer.settings.signature import describe_content, signature
from hyperformer.settings.values import settings

# What versions did that had no such setting.
_EARLIER = {"tf32": False}

Phase = Literal["starting", "training", "evaluating", "done", "stopped", "paused", "failed"]


@dataclass(frozen=True)
class RunState:
    """Where a run is. Times are seconds since the epoch; `seconds_left` is an estimate.

    Attributes:
        micro_batch_parts, eval_rows: of this attempt, as in recovery.json.
    """

    phase: Phase
    step: int = 0
    max_steps: int = 0
    loss: float | None = None
    best_metric: float | None = None
    seconds_left: float | None = None
    started: float = 0.0
    updated: float = 0.0
    error: str | None = None
    micro_batch_parts: int = 1
    eval_rows: int | None = None

    def failed(self, reason: str) -> RunState:
        """The state of the run after it has failed here."""
        return dataclasses.replace(self, phase="failed", error=reason, seconds_left=None)


class RunFolder:
    """Paths in a run's folder, and its small files."""

    config = Entry("config.json")
    inputs = Entry("inputs.json")
    state = Entry("state.json")
    metrics = Entry("metrics.jsonl")
    result = Entry("result.json")
    recovery = Entry("recovery.json")
    race = Entry("race.json")
    heartbeat = Entry("heartbeat")
    checkpoints = Entry("checkpoints")
    adapter = Entry("adapter")
    answers = Entry("answers")
    tensorboard = Entry("tensorboard")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def make(self) -> None:
        """Create the folder.

        Raises:
            CheckpointError: it cannot be created.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"output_dir {self.path}: {error.strerror}; name another folder") from error

    def claim(self, config: RunConfig) -> None:
        """Make the folder and write the config, or check that it holds this very run.

        A run that failed before its first checkpoint left nothing to protect:
        the corrected command may use its folder. A run may be made longer where
        that is exact; the result of the shorter run is renamed.

        Raises:
            CheckpointError: the folder holds a run with other settings, or cannot be used.
            FileError: its config.json is damaged.
        """
        self.make()
        mine = signature(config)
        there = self.read_record()
        if there is not None and there["signature"] != mine and self.has_begun:
            changes = _changes(there, config)
            if not _is_longer(config, there, changes):
                raise CheckpointError(_other_settings(self.path, config, changes))
            if self.result.exists():
                self.keep_result(there["settings"]["max_steps"])
        held = (there or {}).get("contents") if config.known_as else config.contents
        record = {"signature": mine, "settings": flatten(config)}
        write_json(self.config, record if held is None else {**record, "contents": dict(held)})

    def earlier_result(self, steps: int) -> Path:
        """Where the result is kept that a run had before it was made longer."""
        return self.path / f"result-{steps}-steps.json"

    def keep_result(self, steps: int) -> None:
        """Rename the result of a run that is made longer; copy its answers, of which the longer run may need some."""
        answers = self.path / f"answers-{steps}-steps"
        if self.answers.exists() and not answers.exists():
            with new_folder(answers) as folder:
                shutil.copytree(self.answers, folder, dirs_exist_ok=True)
        self.result.rename(self.earlier_result(steps))

    @property
    def has_begun(self) -> bool:
        """Whether there is work of the run to protect: a checkpoint, or the result."""
        return self.result.exists() or any(self.checkpoints.glob("[!.]*"))

    def read_record(self) -> dict[str, Any] | None:
        """What config.json holds; None: there is none.

        Raises:
            FileError: it is damaged.
        """
        record = read_json(self.config)
        if record is not None and not (
            isinstance(record, dict) and {"signature", "settings"} <= record.keys()
        ):
            raise FileError(f"{self.config} is damaged; move {self.path} away, or name another output_dir")
        return record

    def read_config(self) -> RunConfig:
        """The config that the run was started with."""
        record = self.read_record()
        if record is None:
            raise FileError(f"{self.config} is missing")
        config = make_config(record["settings"], str(self.config), record.get("contents"))
        is_known = signature(config) != record["signature"]
        return dataclasses.replace(config, known_as=record["signature"]) if is_known else config

    def write_state(self, state: RunState, *, durable: bool = True) -> None:
        values = dataclasses.asdict(dataclasses.replace(state, updated=time.time()))
        write_json(self.state, values, durable=durable)

    def read_state(self) -> RunState | None:
        """The last state written, or None before the first."""
        values = read_json(self.state)
        if values is None:
            return None
        if not isinstance(values, dict) or "phase" not in values:
            raise FileError(f"{self.state} is damaged; move it away: the run writes a new one")
        known = {item.name for item in dataclasses.fields(RunState)}  # a later version may add some
        return RunState(**{key: values[key] for key in known & values.keys()})

    def read_result(self) -> dict[str, Any] | None:
        """result.json, or None for a run that is not done."""
        result = read_json(self.result)
        if result is not None and not (isinstance(result, dict) and {"signature", "test"} <= result.keys()):
            raise FileError(
                f"{self.result} is damaged; move it away: the run resumes from its last checkpoint"
            )
        return result


def with_recorded_numerics(config: RunConfig, record: Mapping[str, Any] | None) -> RunConfig:
    """The config of a run that resumes, or is made longer, with the numerics (TF32) that it began with.

    Args:
        record: what config.json in the run's folder holds; None: the run begins.

    Raises:
        CheckpointError: an earlier version began it, with numerics that no longer exist.
    """
    if record is None:
        return config
    then, stage = _EARLIER | record["settings"], zero_stage(config.training)
    was_bf16 = "tf32" not in record["settings"] and then.get("precision") == "bf16"
    if was_bf16 and sums_in_float32(config.training.precision, stage) and then.get("zero_stage") == stage:
        raise CheckpointError(
            "the run began under a version that summed gradients in bf16; now they are summed in float32, which "
            "trains otherwise. Choose another output_dir, or move its folder away"
        )
    shorter = dataclasses.replace(config.training, max_steps=then["max_steps"])
    is_same = signature(dataclasses.replace(config, training=shorter)) == record["signature"]
    if not is_same or then["tf32"] == config.training.tf32:
        return config
    training = dataclasses.replace(config.training, tf32=then["tf32"])
    return dataclasses.replace(config, training=training, known_as=signature(config))


def can_be_longer(config: RunConfig) -> bool:
    """Whether a run could be stopped at any step and made longer later: no step's learning rate depends on the last."""
    return config.training.lr_scheduler in CONSTANT_SCHEDULES


def _changes(record: dict[str, Any], config: RunConfig) -> dict[str, str]:
    """Setting -> how it changed, in words: of settings and contents that can change a result."""
    then, now = flatten(make_config(_EARLIER | record["settings"])), flatten(config)
    held, holds = record.get("contents") or {}, config.contents or {}
    both = held.keys() & holds.keys()
    known = {key.partition("/")[0] for key in both}  # data_dir/rte/train
    changes = {
        key: f"{then[key]!r} there, {value!r} now"
        for key, value in now.items()
        if settings()[key].result and then[key] != value and key not in known
    }
    return changes | {
        describe_content(key, now): "changed"
        if "/" in key or key in now
        else f"{held[key]} there, {holds[key]} now"
        for key in sorted(both)
        if held[key] != holds[key]
    }


def _is_longer(config: RunConfig, record: dict[str, Any], changes: dict[str, str]) -> bool:
    """Whether `config` is the recorded run with more steps, and nothing else."""
    steps = record["settings"].get("max_steps")
    is_more = type(steps) is int and steps < config.training.max_steps
    return can_be_longer(config) and is_more and set(changes) == {"max_steps"}


def _other_settings(path: Path, config: RunConfig, changes: dict[str, str]) -> str:
    text = ", ".join(f"{key} ({how})" for key, how in changes.items())
    longer = ""
    if "max_steps" in changes and not can_be_longer(config):
        longer = (
            f" With lr_scheduler={config.training.lr_scheduler} the learning rate of every step depends on max_steps; "
            f"only under {' or '.join(CONSTANT_SCHEDULES)} can a run be made longer."
        )
    return (
        f"{path} holds a run with other settings: {text}.{longer} "
        "Choose another output_dir, or move that folder away"
    )
