"""How often each task of a run is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperformer.errors import ConfigError, DataError
from hyperformer.settings.schema import DataConfig


@dataclass(frozen=True)
class Mixing:
    """The probability of each task. Checked against each other in :mod:`hyperformer.settings.checks`.

    Attributes:
        kind: 'temperature': ~ size^(1/temperature) (Karimi Mahabadi et al. 2021, section 4); 'proportional': ~ size;
            'equal'; 'weights': ~ `weights`.
        cap: rows of a task that count at most as its size: the artificial limit of Raffel et al. 2020, section 3.5.2.
            For all tasks, or of each; None: no limit.
    """

    kind: str = "temperature"
    temperature: float = 1.0
    weights: Mapping[str, float] | None = None
    cap: int | Mapping[str, int] | None = None

    @classmethod
    def of(cls, data: DataConfig) -> Mixing:
        return cls(data.mixing, data.temperature, data.task_weights, data.mixing_cap)

    def distribution(self, sizes: Mapping[str, int]) -> np.ndarray:
        """Probability of each task: float64, shape (tasks,).

        Raises:
            ConfigError: no task, a temperature that is not above 0, or a task without weight.
            DataError: a task without rows.
        """
        if not self.temperature > 0:
            raise ConfigError(
                f"temperature is {self.temperature}; write a number above 0 (1: proportional to size)"
            )
        if not sizes:
            raise ConfigError("There is no task to draw from; name some in tasks")
        for task, size in sizes.items():
            if size < 1:
                raise DataError(f"Task {task!r} has no training rows")
        with np.errstate(over="ignore"):
            weights = self._weights(sizes)
            whole = weights.sum()
        if not np.isfinite(whole):
            of_weights = self.kind == "weights"
            told = (
                "task_weights: their sum"
                if of_weights
                else f"temperature is {self.temperature}: a size^(1/temperature)"
            )
            raise ConfigError(
                f"{told} is too large a number; write {'smaller ones' if of_weights else 'a higher one'}"
            )
        return weights / whole

    def _weights(self, sizes: Mapping[str, int]) -> np.ndarray:
        if self.kind == "weights":
            missing = [task for task in sizes if task not in (self.weights or {})]
            if missing:
                raise ConfigError(f"task_weights has no weight of {', '.join(missing)}")
            return np.array([(self.weights or {})[task] for task in sizes], dtype=float)
        if self.kind == "equal":
            return np.ones(len(sizes))
        counted = np.array([min(size, self._cap_of(task, size)) for task, size in sizes.items()])
        return counted if self.kind == "proportional" else counted ** (1 / self.temperature)

    def _cap_of(self, task: str, size: int) -> int:
        if self.cap is None or isinstance(self.cap, int):
            return size if self.cap is None else self.cap
        return self.cap.get(task, size)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it; plain temperature is as earlier versions wrote it."""
        kind, temperature = (
            ("temperature", 1.0) if self.kind == "proportional" else (self.kind, self.temperature)
        )
        caps = self.cap if self.cap is None or isinstance(self.cap, int) else dict(self.cap)
        more = {"kind": kind, "weights": self.weights and dict(self.weights), "cap": caps}
        is_plain = more == {"kind": "temperature", "weights": None, "cap": None}
        return {"temperature": temperature, **({} if is_plain else {"mixing": more})}
