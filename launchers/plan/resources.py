"""What a run asks of a cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from hyperformer.errors import nearest
from hyperformer.settings.schema import MOST
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.durations import read_duration


@dataclass(frozen=True)
class Resources:
    """One job's share of a cluster; None leaves the choice to the cluster.

    Attributes:
        gpus_per_node: GPUs; a run starts one rank on each.
        gpu_type: of these, in SLURM's words (``a100``, ``1g.10gb``).
        gpu_option: the option that asks for them: gpus-per-node, or gres where a site takes no other.
        cpus_per_task: CPU cores per rank.
        mem_gb: memory per node in GB; 0: all of the node's.
        time: time limit in minutes.
        nodes: machines; the ranks of all of them train one run together.
        tasks_per_node: ranks per node; default: one per GPU, or one where there are none.
        constraint: node features, in SLURM's words (``a100|h100``).
        exclude: nodes not to use (``node[3-4],node9``).
        begin: when the jobs may start at the earliest, in SLURM's words (``2026-12-24T18:00``, ``now+2hours``).
        mail: address that SLURM writes to when a run ends or fails.
        sbatch: further sbatch options, (name, value); value None: a flag.
        srun: further srun arguments.
        setup: shell commands before the run starts; one that fails fails the job.
        pack: runs that share one job side by side, and its GPUs among them.
    """

    gpus_per_node: int = 1
    gpu_type: str | None = None
    gpu_option: str = "gpus-per-node"
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    time: int = 60
    partition: str | None = None
    nodes: int = 1
    tasks_per_node: int | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    exclude: str | None = None
    begin: str | None = None
    mail: str | None = None
    sbatch: tuple[tuple[str, str | None], ...] = ()
    srun: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    pack: int = 1

    @property
    def ranks_per_node(self) -> int:
        """Tasks that srun starts on a node; packed runs are started by one task."""
        return 1 if self.pack > 1 else self.tasks_per_node or max(1, self.gpus_per_node)

    @property
    def ranks(self) -> int:
        """Ranks of one run."""
        return self.nodes * self.ranks_per_node

    @property
    def gpu_request(self) -> dict[str, str]:
        """The sbatch option that asks for the GPUs, and its value; {}: no GPUs."""
        if not self.gpus_per_node:
            return {}
        parts = [*(["gpu"] if self.gpu_option == "gres" else []), self.gpu_type, str(self.gpus_per_node)]
        return {self.gpu_option: ":".join(part for part in parts if part)}

    @property
    def gpu_hours(self) -> float:
        """GPU-hours of a job that uses its whole time."""
        return self.nodes * self.gpus_per_node * self.time / 60

    @property
    def cpu_hours(self) -> float:
        """Core-hours of a job that uses its whole time."""
        return self.ranks * (self.cpus_per_task or 1) * self.time / 60


# `gpus_per_node:` says the type too.
NAMES = tuple(item.name for item in fields(Resources) if item.name != "gpu_type")


def read_resources(node: YamlNode, base: Resources, also: tuple[str, ...] = ()) -> Resources:
    """`base` with the entries of `node` on top; keys in `also` belong to the caller.

    Raises:
        ConfigError: unknown key or impossible value, with its line.
    """
    values: dict[str, Any] = {}
    for key, entry in node.mapping().items():
        if key in also:
            continue
        if key not in NAMES:
            entry.fail(f"unknown resource {key!r}{nearest(key, [*NAMES, *also])}")
        if key == "gpus_per_node":
            values["gpu_type"], values[key] = _gpus(entry)
        else:
            values[key] = None if entry.value is None and key in _MAY_BE_NULL else _READERS[key](entry)
    found = replace(base, **values)
    if found.pack > 1 and (found.nodes > 1 or (found.tasks_per_node or 1) > 1):
        node.fail("packed runs (`pack:`) have one rank each: leave out nodes and tasks_per_node")
    return found


def flag(entry: YamlNode) -> bool:
    """True or false; raises ConfigError with the line."""
    if not isinstance(entry.value, bool):
        entry.fail(f"must be true or false, not {entry.value_text()}")
    return entry.value


def whole_number(entry: YamlNode, least: int) -> int:
    """A whole number of at least `least`; raises ConfigError with the line."""
    number = entry.value
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= MOST:
        entry.fail(
            f"must be a whole number of at least {least}, and at most {MOST:,}, not {entry.value_text()}"
        )
    return number


def positive_number(entry: YamlNode, what: str) -> float:
    """A number above 0; raises ConfigError with the line."""
    number = entry.value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < 1e9:
        entry.fail(f"must be a number of {what} above 0, not {entry.value_text()}")
    return float(number)


def lines(entry: YamlNode) -> tuple[str, ...]:
    """A list of texts, or one text."""
    entries = [entry] if isinstance(entry.value, str) else entry.sequence()
    for item in entries:
        if not isinstance(item.value, str) or not item.value.strip() or "\0" in item.value:
            item.fail(f"must be text, not {item.value_text()}")
    return tuple(item.value for item in entries)


def _word(pattern: str, what: str) -> Callable[[YamlNode], str]:
    def read(entry: YamlNode) -> str:
        value = entry.value
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            entry.fail(f"must be {what}, not {entry.value_text()}")
        return value

    return read


def _number(least: int) -> Callable[[YamlNode], int]:
    return lambda entry: whole_number(entry, least)


def _gpus(entry: YamlNode) -> tuple[str | None, int]:
    """Type and number of ``2``, ``a100:2``, ``1g.10gb:2``."""
    if not isinstance(entry.value, str):
        return None, whole_number(entry, 0)
    match = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_.+-]*):([1-9][0-9]{0,5})", entry.value)
    if not match:
        entry.fail(f"must be a number of GPUs, or a type and a number (a100:2), not {entry.value_text()}")
    return match[1], int(match[2])


def _memory(entry: YamlNode) -> float:
    """GB per node; 0 or ``all``: the whole node's."""
    if entry.value in ("all", 0) and not isinstance(entry.value, bool):
        return 0.0
    return positive_number(entry, "GB, or 0 or all for the whole node,")


def _sbatch(entry: YamlNode) -> tuple[tuple[str, str | None], ...]:
    """``{hint: nomultithread, exclusive: true}`` -> (('hint', 'nomultithread'), ('exclusive', None))."""
    options: dict[str, str | None] = {}
    for key, item in entry.mapping().items():
        name = key.removeprefix("--").replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z-]+", name):
            item.fail(f"{key!r} is no option of sbatch; write its long name, such as `hint: nomultithread`")
        if name in options:
            item.fail(f"--{name} is given twice, in two spellings")
        # sbatch takes the beginning of an option's name for the option.
        ours = name if name in _OURS else next((one for one in _OURS if one.startswith(name)), None)
        if ours:
            item.fail(f"--{ours} is {_OURS[ours]}" + (f" (--{name} is short for it)" if ours != name else ""))
        if name == "gres" and re.search(r"(^|,)(gres/)?gpu\b", str(item.value)):
            item.fail(
                "ask for GPUs by `gpus_per_node:`; where the site takes only --gres, add `gpu_option: gres`"
            )
        if isinstance(item.value, dict | list) or item.value in (None, False):
            item.fail(f"must be the option's value, or true for a flag, not {item.value_text()}")
        if re.search(r"[\x00-\x1f\x7f]", str(item.value)):  # the rest of the line would be another directive
            item.fail(f"must be one line of text, not {item.value_text()}")
        options[name] = None if item.value is True else str(item.texts())
    return tuple(options.items())


def _srun(entry: YamlNode) -> tuple[str, ...]:
    """Arguments of srun that leave the ranks and their logs as they are."""
    found = lines(entry)
    for word in found:
        name = re.split(r"[=\s]", word.lstrip("-"), maxsplit=1)[0]
        is_long = word.startswith("--") and any(one.startswith(name) for one in _OURS_OF_SRUN)
        if is_long or re.match(r"-[noeNiDJ]", word):
            entry.fail(f"{word!r}: the launcher decides this option of srun")
    return found


def _minutes(entry: YamlNode) -> int:
    """Minutes from ``90``, ``1:30:00`` (hours) or ``2-12`` (days and hours), seconds rounded up."""
    found = entry.value
    if isinstance(found, str):
        # 1:30 alone is minutes and seconds for SLURM, and hours and minutes for most people.
        found = None if re.fullmatch(r"\d+:\d+", found) else read_duration(found)
        found = None if found is None else -(-found // 60)
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= MOST:
        entry.fail(f"must be minutes (90) or H:MM:SS (1:30:00) or D-HH:MM:SS, not {entry.value_text()}")
    return found


_NAME = r"[A-Za-z0-9_.,+-]+"
_READERS: dict[str, Callable[[YamlNode], Any]] = {
    "gpu_option": _word("gres|gpus-per-node", "gres or gpus-per-node"),
    "cpus_per_task": _number(1),
    "mem_gb": _memory,
    "time": _minutes,
    "partition": _word(_NAME, "the name of a partition"),
    "nodes": _number(1),
    "tasks_per_node": _number(1),
    "account": _word(_NAME, "the name of an account"),
    "qos": _word(_NAME, "the name of a QOS"),
    "constraint": _word(r"[A-Za-z0-9_.,+&|*()\[\]-]+", "features of nodes, such as a100 or a100|h100"),
    "reservation": _word(_NAME, "the name of a reservation"),
    "exclude": _word(r"[A-Za-z0-9_.,\[\]-]+", "names of nodes, such as node3 or node[3-5]"),
    "begin": _word(
        r"[A-Za-z0-9:+/.-]+", "a time of sbatch's --begin, such as 2026-12-24T18:00 or now+2hours"
    ),
    "mail": _word(r"[^\s'\"\\@]+@[^\s'\"\\@]+", "a mail address"),
    "sbatch": _sbatch,
    "srun": _srun,
    "setup": lines,
    "pack": _number(1),
}
_MAY_BE_NULL = frozenset(item.name for item in fields(Resources) if item.default is None)
_RANKS = "not to be set: `nodes:`, `tasks_per_node:` and `gpus_per_node:` say where ranks are"
_LAUNCHER = "the launcher's to decide"
_ENVIRONMENT = "not to be set: what a job's environment lacks is added under `environment:` of the profile"
# Options of sbatch that have a key of their own, or without which the launcher cannot work (sbatch(1), 20.11 to 25.11).
_OURS = {
    **dict.fromkeys((
        "array", "chdir", "container", "container-id", "dependency", "error", "help", "input", "job-name", "nodefile",
        "no-kill", "no-requeue", "open-mode", "output", "parsable", "quiet", "requeue", "signal", "test-only", "usage",
        "version", "wait", "wrap",
    ), _LAUNCHER),
    **dict.fromkeys(("export", "export-file", "get-user-env"), _ENVIRONMENT),
    **dict.fromkeys((
        "gpus", "gpus-per-socket", "gpus-per-task", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-socket",
    ), _RANKS),
    "ntasks": "`tasks_per_node:`", "ntasks-per-node": "`tasks_per_node:`", "nodes": "`nodes:`",
    "gpus-per-node": "`gpus_per_node:`", "cpus-per-task": "`cpus_per_task:`", "mem": "`mem_gb:`",
    "time": "`time:`", "partition": "`partition:`", "account": "`account:`", "qos": "`qos:`",
    "constraint": "`constraint:`", "reservation": "`reservation:`", "exclude": "`exclude:`", "begin": "`begin:`",
    "mail-user": "`mail:`", "clusters": "`cluster:` of the profile", "cluster": "`cluster:` of the profile",
}  # fmt: skip
_OURS_OF_SRUN = (
    "chdir", "error", "export", "gpus-per-node", "input", "job-name", "jobid", "kill-on-bad-exit", "label",
    "multi-prog", "nodes", "ntasks", "ntasks-per-node", "output", "test-only",
)  # fmt: skip
