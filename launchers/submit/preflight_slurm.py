"""What SLURM would refuse, or leave waiting for ever; found before anything is handed to it."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from hyperformer.errors import ConfigError, nearest
from hyperformer.settings.deepspeed_json.read import read_user_json
from launchers.plan.plan import Run
from launchers.plan.resources import Resources
from launchers.slurm.site import Partition, Site
from launchers.submit import preflight_disk
from launchers.submit.preflight import Finding

_NOT_SHARED = ("tmpfs", "ramfs", "overlay")


def find_problems(runs: Sequence[Run], site: Site, folder: Path) -> tuple[list[Finding], list[str]]:
    """Each thing that cannot work, and notes for the user.

    Args:
        folder: the sweep's; need not be there.
    """
    shapes: dict[Resources, list[Run]] = {}
    for run in runs:
        shapes.setdefault(run.resources, []).append(run)
    findings: list[Finding] = []
    notes: list[str] = []
    for resources, members in shapes.items():
        who = members[0].name + (f" and {len(members) - 1} more" if len(members) > 1 else "")
        texts, of_some = _in_partitions(resources, site)
        texts += [*_names(resources, site), *_idle_gpus(resources)]
        findings += [Finding(name, f"{text} ({who})") for name, text in texts]
        findings += _batches(resources, members)
        notes += [f"{text} ({who})" for text in of_some]
    return [*findings, *_folder(folder, site, shapes)], notes


def unusable_name(folder: Path) -> Iterator[Finding]:
    """What SLURM would read in the names of log files; they would be other files, so it cannot be ignored."""
    if re.search(r"[%\\\x00-\x1f]", str(folder)):
        why = "SLURM reads '%', '\\' and line breaks in the names of log files; choose another --runs-dir"
        yield Finding(None, f"{folder}: {why}")


_Texts = list[tuple[str, str]]  # (name of the finding, what is wrong)


def _in_partitions(resources: Resources, site: Site) -> tuple[_Texts, list[str]]:
    """What keeps a job out of all of its partitions; and notes on those of a list that it fits not."""
    unknown: _Texts = [
        ("partition", f"partition {name!r}: there is none of that name{nearest(name, site.partitions)}")
        for name in (resources.partition or "").split(",")
        if name and name not in site.partitions
    ]
    partitions = site.partitions_for(resources.partition)
    if resources.partition is None and not partitions:
        names = ", ".join(site.partitions)
        unknown.append(("partition", f"partition: this SLURM has no default one; name one of {names}"))
    faults = [list(_faults(resources, partition)) for partition in partitions]
    down = [
        f"partition {each.name} is down now: jobs wait in it" for each in partitions if each.state == "DOWN"
    ]
    if all(faults):  # it fits none of them
        return [*unknown, *(fault for each in faults for fault in each)], down
    return unknown, [
        *down,
        *(f"jobs cannot run in all of their partitions: {text}" for each in faults for _, text in each),
    ]


def _faults(resources: Resources, partition: Partition) -> Iterator[tuple[str, str]]:
    """Why a job cannot run in a partition."""
    name = f"partition {partition.name}"
    if partition.state not in ("UP", "DOWN"):
        yield "partition", f"{name} takes no jobs now (it is {partition.state})"
    if partition.max_minutes is not None and resources.time > partition.max_minutes:
        yield "time", f"time: {resources.time} minutes, but {name} allows {partition.max_minutes}"
    most = min(partition.nodes, partition.max_nodes or partition.nodes)
    if resources.nodes > most:
        yield "nodes", f"nodes: {resources.nodes}, but {name} gives {most} at most"
    if resources.gpus_per_node > partition.gpus_per_node:
        why = f"{name} has {partition.gpus_per_node} per node"
        yield "gpus", f"gpus_per_node: {resources.gpus_per_node}, but {why}"
    cpus = resources.ranks_per_node * (resources.cpus_per_task or 1)
    if cpus > partition.cpus_per_node:
        why = f"{name} has {partition.cpus_per_node}"
        yield "cores", f"cpus_per_task: {cpus} cores per node in all, but {why}"
    if resources.mem_gb is not None and resources.mem_gb > partition.mem_gb:
        yield "memory", f"mem_gb: {resources.mem_gb:g}, but {name} has {partition.mem_gb:.0f} GB per node"
    for feature in _missing_features(resources.constraint or "", partition.features):
        hint = nearest(feature, partition.features)
        yield "constraint", f"constraint {feature!r}: no node of {name} has it{hint}"


def _missing_features(constraint: str, there: Collection[str]) -> list[str]:
    """Features that a constraint needs and no node has: of ``a|b`` one is enough, of ``a&b`` both are needed.

    Where it mixes the two, sbatch decides.
    """
    names = [name for name in re.findall(r"[A-Za-z0-9_.=-]+", constraint) if not name.isdigit()]
    missing = [name for name in names if name not in there]
    if "|" in constraint:
        return missing if len(missing) == len(names) and not set("&,") & set(constraint) else []
    return missing


def _names(resources: Resources, site: Site) -> Iterator[tuple[str, str]]:
    """Names that SLURM does not know; it takes those of accounts and QOS in any case."""
    for key, mine, known in (("account", resources.account, site.accounts), ("qos", resources.qos, site.qos)):
        if mine is not None and known is not None and mine.lower() not in known:
            yield key, f"{key} {mine!r}: you have none of that name{nearest(mine, known)}"
    for name in (resources.reservation or "").split(","):
        if name and name not in site.reservations:
            hint = nearest(name, site.reservations) if site.reservations else ""
            yield "reservation", f"reservation {name!r}: there is none of that name{hint}"


def _idle_gpus(resources: Resources) -> Iterator[tuple[str, str]]:
    gpus = f"gpus_per_node is {resources.gpus_per_node}, but"
    if 1 < resources.ranks_per_node < resources.gpus_per_node and resources.pack == 1:
        idle = resources.gpus_per_node - resources.ranks_per_node
        why = f"uses one GPU per task and leaves {idle} idle"
        yield "gpus", f"{gpus} tasks_per_node: {resources.ranks_per_node} {why}"
    if 1 < resources.pack < resources.gpus_per_node:
        why = f"ask for {resources.pack}, or pack more"
        yield "gpus", f"{gpus} {resources.pack} packed runs use one each; {why}"


def _batches(resources: Resources, runs: list[Run]) -> Iterator[Finding]:
    """A DeepSpeed file that fixes the global batch must agree with the ranks."""
    for run in runs:
        training = run.config.training
        try:
            read_user_json(training, training.rows_per_rank * resources.ranks)
        except ConfigError as error:
            yield Finding("batch", f"{run.name}: {error}")


def _folder(folder: Path, site: Site, shapes: Iterable[Resources]) -> Iterator[Finding]:
    partitions = [each for resources in shapes for each in site.partitions_for(resources.partition)]
    elsewhere = {host for each in partitions for host in each.hosts} - {socket.gethostname()}
    _, kind = preflight_disk.mount(folder)
    if elsewhere and (kind in _NOT_SHARED or _is_temporary(folder)):
        why = f"is on this machine only ({kind or 'a temporary folder'}), and the jobs run on others"
        yield Finding("shared-folder", f"{folder} {why}; choose a --runs-dir that all nodes share")


def _is_temporary(folder: Path) -> bool:
    return any(folder.is_relative_to(place) for place in ("/tmp", "/var/tmp", "/dev/shm"))
