"""What a run asks of a cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from hyperformer.errors import nearest
from launchers.located import Located


@dataclass(frozen=True)
class Resources:
    """One run's share of a cluster; None leaves the choice to the cluster.

    Attributes:
        gpus_per_node: GPUs; the run starts one rank on each, or one rank if there are none.
        cpus_per_task: CPU cores a rank.
        mem_gb: memory in GB.
        time: time limit in minutes.
        partition: SLURM partition.
    """

    gpus_per_node: int = 1
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    time: int = 60
    partition: str | None = None

    @property
    def ranks(self) -> int:
        return max(1, self.gpus_per_node)


def read_resources(node: Located, base: Resources, also: tuple[str, ...] = ()) -> Resources:
    """`base` with the entries of `node` on top; keys in `also` belong to the caller.

    Raises:
        ConfigError: unknown key or impossible value, with its line.
    """
    values = {item.name: getattr(base, item.name) for item in fields(Resources)}
    for key, entry in node.mapping().items():
        if key in also:
            continue
        if key not in values:
            entry.fail(f"unknown resource {key!r}{nearest(key, [*values, *also])}")
        values[key] = _minutes(entry) if key == "time" else _value(key, entry)
    return Resources(**values)


def whole_number(entry: Located, least: int) -> int:
    """A whole number of at least `least`; raises ConfigError with the line."""
    if isinstance(entry.value, bool) or not isinstance(entry.value, int) or entry.value < least:
        entry.fail(f"must be a whole number of at least {least}, not {entry.value_text()}")
    return entry.value


def _value(key: str, entry: Located) -> object:
    if key == "gpus_per_node":
        return whole_number(entry, 0)
    if key == "cpus_per_task":
        return whole_number(entry, 1)
    if key == "mem_gb":
        number = entry.value
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < 1e6:
            entry.fail(f"must be a number of GB above 0, not {entry.value_text()}")
        return float(number)
    if not isinstance(entry.value, str) or not re.fullmatch(r"[A-Za-z0-9_.,+-]+", entry.value):
        entry.fail(f"must be the name of a partition, not {entry.value_text()}")
    return entry.value


def _minutes(entry: Located) -> int:
    """Minutes from ``90``, ``1:30:00`` (hours) or ``2-00:00:00`` (days), seconds rounded up."""
    if isinstance(entry.value, str):
        match = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", entry.value)
        if match:
            days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
            total = days * 1440 + hours * 60 + minutes + (seconds > 0)
            if total > 0:
                return total
    elif isinstance(entry.value, int) and not isinstance(entry.value, bool) and entry.value > 0:
        return entry.value
    entry.fail(f"must be minutes (90) or H:MM:SS (1:30:00) or D-HH:MM:SS, not {entry.value_text()}")
