"""What this SLURM is: partitions, nodes, limits, accounts; as scontrol and sacctmgr tell it."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from launchers.plan.durations import read_duration
from launchers.slurm.accounting import Accounting, read_accounting
from launchers.slurm.commands import ClusterError, check_output, parsing_answer


@dataclass
class Partition:
    """One partition; the figures are those of its best node, None where SLURM sets no limit.

    Attributes:
        state: UP; DOWN: it takes jobs, which wait; DRAIN and INACTIVE: it takes none.
        qos: its own, which holds its jobs to limits besides those of theirs.
        gpu_types: GPUs of a node by type, as SLURM names it (``a100``, ``a100_1g.5gb``).
    """

    name: str
    is_default: bool = False
    state: str = "UP"
    max_minutes: int | None = None
    max_nodes: int | None = None
    qos: str | None = None
    nodes: int = 0
    gpus_per_node: int = 0
    gpu_types: dict[str, int] = field(default_factory=dict)
    cpus_per_node: int = 0
    mem_gb: float = 0.0
    features: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Reservation:
    """Nodes that are kept for some users; `start` and `end` in seconds since the epoch."""

    name: str
    start: float
    end: float


@dataclass
class Site:
    """What SLURM says of itself.

    Attributes:
        partitions: hidden ones, too.
        accounts: those of the user, in lower case; None where any will do.
        qos: those that there are, in lower case; None where there is no accounting.
        accounting: which of them a job gets that names none, and limits on submitted jobs.
    """

    partitions: dict[str, Partition]
    reservations: dict[str, Reservation] = field(default_factory=dict)
    max_array_size: int = 1001
    accounts: set[str] | None = None
    qos: set[str] | None = None
    accounting: Accounting = field(default_factory=Accounting)

    @property
    def default(self) -> Partition | None:
        return next((entry for entry in self.partitions.values() if entry.is_default), None)

    def partitions_for(self, names: str | None) -> list[Partition]:
        """The partitions that a job with `partition: names` may run in: those of a list, or the default one."""
        if names is None:
            return [self.default] if self.default else []
        return [self.partitions[name] for name in names.split(",") if name in self.partitions]


def read_site(cluster: str | None = None) -> Site:
    """Ask SLURM.

    Args:
        cluster: another one than this machine's own.

    Raises:
        ClusterError: it does not answer.
    """
    with ThreadPoolExecutor() as pool:  # at once: each takes its time to reach slurmctld
        kinds = ("config", "partition", "node", "reservation")
        answers = pool.map(
            lambda kind: check_output("scontrol", "--all", "--oneliner", "show", kind, cluster=cluster), kinds
        )
        settings, about_partitions, about_nodes, about_reservations = answers
    with parsing_answer():
        config = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", settings, re.M))
        partitions = {
            each.name: each for each in map(_partition, _records(about_partitions, "PartitionName"))
        }
        for fields in _records(about_nodes, "NodeName"):
            for name in fields.get("Partitions", "").split(","):
                if name in partitions:
                    _add_node(partitions[name], fields)
        found = map(_reservation, _records(about_reservations, "ReservationName"))
        reservations = {each.name: each for each in found}
    site = Site(partitions, reservations, _number(config.get("MaxArraySize")) or 1001)
    if config.get("AccountingStorageType", "none").endswith("slurmdbd"):
        with suppress(ClusterError), parsing_answer():  # what it allows stays unknown
            _add_accounting(site, config, cluster)
    return site


def _partition(fields: dict[str, str]) -> Partition:
    qos = fields.get("QoS", "N/A")
    return Partition(
        fields["PartitionName"],
        fields.get("Default") == "YES",
        fields.get("State", "UP"),
        _minutes(fields.get("MaxTime", "")),
        _number(fields.get("MaxNodes")),
        None if qos == "N/A" else qos,
    )


def _reservation(fields: dict[str, str]) -> Reservation:
    start, end = (
        time.mktime(time.strptime(fields[name], "%Y-%m-%dT%H:%M:%S")) for name in ("StartTime", "EndTime")
    )
    return Reservation(fields["ReservationName"], start, end)


def _add_accounting(site: Site, config: dict[str, str], cluster: str | None) -> None:
    enforced = set(config.get("AccountingStorageEnforce", "").split(","))
    partition_qos = {each.name: each.qos for each in site.partitions.values() if each.qos}
    limited = bool(enforced & {"limits", "safe", "all"})
    found = read_accounting(config.get("ClusterName", ""), cluster, partition_qos, limited)
    site.accounting = replace(found, default_partition=site.default.name if site.default else "")
    site.qos = set(site.accounting.qos)
    mine = {each.account for each in site.accounting.associations}
    if mine and enforced & {"associations", "limits", "safe", "qos", "all"}:
        site.accounts = mine


def gpus_of(gres: str) -> dict[str, int]:
    """GPUs by type, in SLURM's words; the type of some is ''.

    >>> gpus_of("gpu:a100:4(S:0-1),gpu:t4:1,gpu:2,shard:8")
    {'a100': 4, 't4': 1, '': 2}
    """
    found: dict[str, int] = {}
    for item in re.sub(r"\([^)]*\)", "", gres).split(","):
        kind, *rest = item.split(":")
        if kind == "gpu":
            count = int(rest.pop()) if rest and rest[-1].isdecimal() else 1
            name = rest[0] if rest else ""
            found[name] = found.get(name, 0) + count
    return found


def _minutes(text: str) -> int | None:
    """Whole minutes of a limit; None: SLURM sets none."""
    found = read_duration(text)
    return None if found is None else found // 60


def _add_node(partition: Partition, fields: dict[str, str]) -> None:
    partition.nodes += 1
    gpus = gpus_of(fields.get("Gres", ""))
    partition.gpus_per_node = max(partition.gpus_per_node, sum(gpus.values()))
    for name, count in gpus.items():
        partition.gpu_types[name] = max(partition.gpu_types.get(name, 0), count)
    partition.cpus_per_node = max(partition.cpus_per_node, _number(fields.get("CPUTot")) or 0)
    partition.mem_gb = max(partition.mem_gb, (_number(fields.get("RealMemory")) or 0) / 1024)
    if fields.get("AvailableFeatures") not in (None, "(null)"):
        partition.features |= set(fields["AvailableFeatures"].split(","))
    is_here = fields.get("NodeAddr", "").startswith("127.")
    partition.hosts.add(socket.gethostname() if is_here else fields.get("NodeHostName", fields["NodeName"]))


def _records(text: str, first: str) -> list[dict[str, str]]:
    """'Key=value Key=value' lines that begin with the key `first`."""
    lines = (line.strip() for line in text.splitlines())
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith(f"{first}=")]


def _number(text: str | None) -> int | None:
    match = re.match(r"\d+", text or "")
    return int(match[0]) if match else None


def is_down(node: str) -> bool:
    """Whether SLURM says that a node does not work; False also where SLURM cannot be asked."""
    if not node:
        return False
    try:
        states = check_output("sinfo", "--noheader", f"--nodes={node}", "--format=%t").split()
    except ClusterError:
        return False
    return any(state.startswith(("down", "drain", "fail", "unk")) for state in states)
