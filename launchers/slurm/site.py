"""What this SLURM is: partitions, nodes, limits, accounts; as scontrol and sacctmgr tell it."""

from __future__ import annotations

import getpass
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from launchers.plan.durations import read_duration
from launchers.slurm.commands import ClusterError, ask


@dataclass
class Partition:
    """One partition; the figures are those of its best node, None where SLURM sets no limit."""

    name: str
    is_default: bool = False
    up: bool = True
    max_minutes: int | None = None
    max_nodes: int | None = None
    nodes: int = 0
    gpus_per_node: int = 0
    cpus_per_node: int = 0
    mem_gb: float = 0.0
    features: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)


@dataclass
class Site:
    """`accounts` and `qos` are None where there is no accounting to ask."""

    partitions: dict[str, Partition]
    max_array_size: int = 1001
    accounting: bool = False
    accounts: set[str] | None = None
    qos: set[str] | None = None
    max_submit: int | None = None

    @property
    def default(self) -> Partition | None:
        return next((entry for entry in self.partitions.values() if entry.is_default), None)

    def partition(self, name: str | None) -> Partition | None:
        """The partition of that name, or the default one; None if there is none."""
        return self.default if name is None else self.partitions.get(name)


def read_site() -> Site:
    """Ask SLURM. Raises ClusterError if it does not answer."""
    with ThreadPoolExecutor() as pool:  # at once: each takes its time to reach slurmctld
        whats = (("config",), ("partition", "--oneliner"), ("node", "--oneliner"))
        settings, about_partitions, about_nodes = pool.map(lambda what: ask("scontrol", "show", *what), whats)
    config = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", settings, re.M))
    partitions = {}
    for fields in _records(about_partitions):
        name = fields["PartitionName"]
        partitions[name] = Partition(
            name, fields.get("Default") == "YES", fields.get("State", "UP") == "UP",
            _minutes(fields.get("MaxTime", "")), _number(fields.get("MaxNodes")),
        )  # fmt: skip
    for fields in _records(about_nodes):
        for name in fields.get("Partitions", "").split(","):
            if name in partitions:
                _add_node(partitions[name], fields)
    site = Site(partitions, _number(config.get("MaxArraySize")) or 1001)
    site.accounting = config.get("AccountingStorageType", "none").endswith("slurmdbd")
    if site.accounting:
        _ask_accounting(site, "associations" in config.get("AccountingStorageEnforce", ""))
    return site


def gpus_of(gres: str) -> int:
    """GPUs in SLURM's words.

    >>> gpus_of("gpu:a100:4(S:0-1),gpu:t4:1,shard:8")
    5
    """
    found = 0
    for item in re.sub(r"\([^)]*\)", "", gres).split(","):
        kind, *rest = item.split(":")
        if kind == "gpu":
            found += int(rest[-1]) if rest and rest[-1].isdigit() else 1
    return found


def _minutes(text: str) -> int | None:
    """Whole minutes of a limit; None: SLURM sets none."""
    found = read_duration(text)
    return None if found is None else found // 60


def _add_node(partition: Partition, fields: dict[str, str]) -> None:
    partition.nodes += 1
    partition.gpus_per_node = max(partition.gpus_per_node, gpus_of(fields.get("Gres", "")))
    partition.cpus_per_node = max(partition.cpus_per_node, _number(fields.get("CPUTot")) or 0)
    partition.mem_gb = max(partition.mem_gb, (_number(fields.get("RealMemory")) or 0) / 1024)
    if fields.get("AvailableFeatures") not in (None, "(null)"):
        partition.features |= set(fields["AvailableFeatures"].split(","))
    is_here = fields.get("NodeAddr", "").startswith("127.")
    partition.hosts.add(socket.gethostname() if is_here else fields.get("NodeHostName", fields["NodeName"]))


def _ask_accounting(site: Site, enforced: bool) -> None:
    """Accounts, QOS and submit limits of the user; left unknown where slurmdbd does not answer."""
    words = ("sacctmgr", "--noheader", "--parsable2", "show")
    try:
        mine = ask(*words, "assoc", f"user={getpass.getuser()}", "format=Account,QOS,MaxSubmitJobs")
        names = ask(*words, "qos", "format=Name")
    except ClusterError:
        return
    site.qos = set(names.split())
    rows = [line.split("|") for line in mine.splitlines() if line.count("|") == 2]
    if rows and enforced:
        site.accounts = {row[0] for row in rows}
    limits = [int(row[2]) for row in rows if row[2].isdigit()]
    site.max_submit = min(limits) if limits else None


def _records(text: str) -> list[dict[str, str]]:
    """'Key=value Key=value' lines."""
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if "=" in line]


def _number(text: str | None) -> int | None:
    match = re.match(r"\d+", text or "")
    return int(match[0]) if match else None


def is_down(node: str) -> bool:
    """Whether SLURM says that a node does not work; False also where SLURM cannot be asked."""
    if not node:
        return False
    try:
        told = ask("sinfo", "--noheader", f"--nodes={node}", "--format=%t").split()
    except ClusterError:
        return False
    return any(state.startswith(("down", "drain", "fail", "unk")) for state in told)
