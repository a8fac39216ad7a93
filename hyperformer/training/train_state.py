"""What a resume needs: the one list. Whether training stops early."""

from __future__ import annotations

import base64
import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from hyperformer.settings.schema import TrainingConfig

Metrics = dict[str, dict[str, float]]
_OF_VALIDATION = (
    "evaluated_step",
    "best_step",
    "best_metric",
    "best_metrics",
    "best_file",
    "best_answers",
    "best_one_class",
    "one_class",
    "average_to_beat",
    "not_better",
)


@dataclass
class TrainState:
    """Where a run is. **What a resume needs is this list, and nothing else:**

    ==========================  ============================================================
    trained weights, optimizer  parameter_shards: float32 weights and moments, by name
    schedule, loss scaler       engine_state.counters, with DeepSpeed's own counts of steps
    random states               :func:`random_states`, of every rank
    loss since the last line    RankState.loss, of every rank
    everything else             the attributes below
    ==========================  ============================================================

    Frozen weights come from the base model and the seed; the micro-batch splits
    from recovery.json; the batch from the settings and the manifest.

    Attributes:
        step: optimizer steps done.
        logged_step: step of the last line with a loss.
        skipped_steps: of the steps done, those that changed no weights (fp16: the scaled gradient overflowed).
        logged_skipped: the same, at the last line.
        evaluated_step: step of the last complete validation.
        sampler: exact position in every task's stream.
        best_step: step of the best validation so far, 0 before the first.
        best_metric: its average metric, percent.
        best_metrics: its metrics per task.
        best_file: name and checksum of the weights that it saw.
        best_answers: task -> the file of its answers, as result.json lists it.
        best_one_class: task -> the class that all its rows were answered with there, if it was one.
        one_class: the same in the last validation, if `one_class_after` of the steps were done.
        average_to_beat: of `early_stop`: the average of the last validation that counts as better.
        not_better: validations since then.
        before_end: the fields of :data:`_OF_VALIDATION` before a validation that came only because
            the run ended; a longer run has none there.
        train_seconds: spent in training steps by all attempts.
        evaluate_seconds: spent in evaluation by all attempts.
    """

    step: int = 0
    logged_step: int = 0
    skipped_steps: int = 0
    logged_skipped: int = 0
    evaluated_step: int = 0
    sampler: dict[str, Any] = field(default_factory=dict)
    best_step: int = 0
    best_metric: float | None = None
    best_metrics: Metrics = field(default_factory=dict)
    best_file: list[str] | None = None
    best_answers: dict[str, Any] = field(default_factory=dict)
    best_one_class: dict[str, str] = field(default_factory=dict)
    one_class: dict[str, str] = field(default_factory=dict)
    average_to_beat: float | None = None
    not_better: int = 0
    before_end: dict[str, Any] | None = None
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0

    def count_validation(self, average: float, min_delta: float) -> None:
        """Count a validation for `early_stop`; `min_delta`: percentage points by which a better one is higher."""
        if self.average_to_beat is None or average > self.average_to_beat + min_delta:
            self.average_to_beat, self.not_better = average, 0
        else:
            self.not_better += 1

    def stopped_early(self, settings: TrainingConfig) -> str | None:
        """Why `early_stop` ends the run before `max_steps`, in words; None: it does not.

        The metrics are the same on every rank, so all ranks agree.
        """
        patience = settings.early_stop
        if patience is None or self.not_better < patience or self.step >= settings.max_steps:
            return None
        return (
            f"early_stop: the last {self.not_better} evaluations brought no better validation average than "
            f"{self.average_to_beat:.2f}; stopped at step {self.step} of {settings.max_steps}"
        )

    def is_late(self, settings: TrainingConfig) -> bool:
        """Whether a model should by now tell classes apart."""
        return self.is_over(settings) or self.step >= settings.one_class_after * settings.max_steps

    def is_over(self, settings: TrainingConfig) -> bool:
        """Whether no step follows."""
        return self.step >= settings.max_steps or self.stopped_early(settings) is not None

    def remember_end(self) -> None:
        """Keep what a validation is about to replace that only the end of the run brings."""
        self.before_end = {name: getattr(self, name) for name in _OF_VALIDATION}

    def forget_end(self) -> None:
        """The run is made longer: discard the validation that came only because it ended."""
        # Earlier versions kept no answers, and took no notice of their classes.
        lacking: dict[str, Any] = {"best_answers": {}, "best_one_class": {}, "one_class": {}}
        for name, value in (lacking | (self.before_end or {})).items():
            setattr(self, name, value)
        self.before_end = None

    @property
    def best_files(self) -> list[list[str]]:
        """Name and checksum of every file of weights that the run may still need."""
        before = (self.before_end or {}).get("best_file")
        return [file for file in (self.best_file, before) if file]


@dataclass
class RankState:
    """What belongs to one rank alone.

    Attributes:
        loss: sum of its losses since the last line.
        random: its random states, plain JSON.
    """

    loss: float
    random: dict[str, Any]


def random_states() -> dict[str, Any]:
    """State of every random generator of this process, as plain JSON."""
    numpy_state: Any = np.random.get_state(legacy=True)
    kind, keys, *rest = numpy_state
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, keys.tolist(), *rest],
        "torch": _text(torch.get_rng_state()),
    }
    if torch.cuda.is_available():
        states["cuda"] = _text(torch.cuda.get_rng_state())
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """The inverse of :func:`random_states`."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(_tensor(states["torch"]))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(_tensor(states["cuda"]))


def derive_random_states(seed: int, step: int, rank: int) -> None:
    """Seed a rank that the checkpoint does not know, by a hash of the run's seed, the step and the rank."""
    text = f"{seed} {step} {rank}"
    set_seed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little"))


def _text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
