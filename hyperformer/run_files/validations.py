"""The validations of a run, read from its metrics.jsonl while it trains, or after. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

AVERAGE = "average"


def read_validations(metrics: Path) -> dict[int, dict[str, float]]:
    """Step -> "task/metric", and AVERAGE -> percent, of the lines of metrics.jsonl that are complete."""
    found: dict[int, dict[str, float]] = {}
    try:
        lines = metrics.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        # OverflowError: a step that is infinite.
        with suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            values = json.loads(line)
            if values["split"] == "validation":
                step = int(values["step"])
                found[step] = {
                    key: float(value) for key, value in values.items() if "/" in key or key == AVERAGE
                }
    return found


def metrics_kept_at(
    lines: Mapping[int, Mapping[str, float]], step: int
) -> dict[str, dict[str, float]] | None:
    """Validation metrics of the checkpoint that the run would keep if it ended at `step`: the best average so far.

    Args:
        lines: of :func:`read_validations`.

    Returns:
        task -> metric -> percent; None: it was not evaluated at `step`.
    """
    if step not in lines:
        return None
    kept = min(lines)
    for at in sorted(lines):  # the first of the best, as the run itself keeps it
        if at <= step and lines[at].get(AVERAGE, 0.0) > lines[kept].get(AVERAGE, 0.0):
            kept = at
    found: dict[str, dict[str, float]] = {}
    for name, value in lines[kept].items():
        task, slash, metric = name.rpartition("/")
        if slash:
            found.setdefault(task, {})[metric] = value
    return found
