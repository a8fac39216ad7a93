"""What SLURM would refuse, or leave waiting for ever; found before anything is handed to it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from hyperformer.errors import nearest
from launchers.plan.resources import Resources
from launchers.plan.runs import Run
from launchers.slurm.site import Partition, Site
from launchers.submit import disk_space
from launchers.submit.preflight import Finding

_NOT_SHARED = ("tmpfs", "ramfs", "overlay")


def findings(runs: Sequence[Run], site: Site, folder: Path) -> Iterator[Finding]:
    """Each thing that cannot work.

    Args:
        folder: the sweep's; need not be there.
    """
    shapes: dict[Resources, list[Run]] = {}
    for run in runs:
        shapes.setdefault(run.resources, []).append(run)
    for resources, members in shapes.items():
        who = members[0].name + (f" and {len(members) - 1} more" if len(members) > 1 else "")
        for name, text in _shape(resources, site):
            yield Finding(name, f"{text} ({who})")
        yield from _batches(resources, members)
    yield from _folder(folder, site, runs)


def unusable_name(folder: Path) -> Iterator[Finding]:
    """What SLURM would read in the names of log files; they would be other files, so it cannot be ignored."""
    if re.search(r"[%\\\x00-\x1f]", str(folder)):
        told = "SLURM reads '%', '\\' and line breaks in the names of log files; choose another --runs-dir"
        yield Finding(None, f"{folder}: {told}")


def _shape(resources: Resources, site: Site) -> Iterator[tuple[str, str]]:
    """(finding's name, text) of each."""
    partition = site.partition(resources.partition)
    if partition is None:
        if resources.partition is None:
            told = f"this SLURM has no default one; name one of {', '.join(site.partitions)}"
            yield "partition", f"partition: {told}"
            return
        for name in resources.partition.split(","):
            if name not in site.partitions:
                hint = nearest(name, site.partitions)
                yield "partition", f"partition {name!r}: there is none of that name{hint}"
    else:
        yield from _limits(resources, partition)
    for key, mine, known in (("account", resources.account, site.accounts), ("qos", resources.qos, site.qos)):
        if mine is not None and known is not None and mine.lower() not in known:
            yield key, f"{key} {mine!r}: you have none of that name{nearest(mine, known)}"
    if 1 < resources.ranks_per_node < resources.gpus_per_node and resources.pack == 1:
        idle = resources.gpus_per_node - resources.ranks_per_node
        yield (
            "gpus",
            f"gpus_per_node is {resources.gpus_per_node}, but tasks_per_node: {resources.ranks_per_node} "
            f"uses one GPU per task and leaves {idle} idle",
        )
    if 1 < resources.pack < resources.gpus_per_node:
        yield (
            "gpus",
            f"gpus_per_node is {resources.gpus_per_node}, but {resources.pack} packed runs use one each; "
            f"ask for {resources.pack}, or pack more",
        )


def _limits(resources: Resources, partition: Partition) -> Iterator[tuple[str, str]]:
    name = f"partition {partition.name}"
    if not partition.up:
        yield "partition", f"{name} is not up: jobs would wait in it"
    if partition.max_minutes is not None and resources.time > partition.max_minutes:
        yield "time", f"time: {resources.time} minutes, but {name} allows {partition.max_minutes}"
    most = min(partition.nodes, partition.max_nodes or partition.nodes)
    if resources.nodes > most:
        yield "nodes", f"nodes: {resources.nodes}, but {name} gives {most} at most"
    if resources.gpus_per_node > partition.gpus_per_node:
        told = f"{name} has {partition.gpus_per_node} per node"
        yield "gpus", f"gpus_per_node: {resources.gpus_per_node}, but {told}"
    cpus = resources.ranks_per_node * (resources.cpus_per_task or 1)
    if cpus > partition.cpus_per_node:
        told = f"{name} has {partition.cpus_per_node}"
        yield "cores", f"cpus_per_task: {cpus} cores per node in all, but {told}"
    if resources.mem_gb is not None and resources.mem_gb > partition.mem_gb:
        yield "memory", f"mem_gb: {resources.mem_gb:g}, but {name} has {partition.mem_gb:.0f} GB per node"
    for feature in re.findall(r"[A-Za-z0-9_.-]+", resources.constraint or ""):
        if feature not in partition.features and not feature.isdigit():
            hint = nearest(feature, partition.features)
            yield "constraint", f"constraint {feature!r}: no node of {name} has it{hint}"


def _batches(resources: Resources, runs: list[Run]) -> Iterator[Finding]:
    """A DeepSpeed file that fixes the global batch must agree with the ranks."""
    for run in runs:
        path = run.config.training.deepspeed_config
        if path is None:
            continue
        try:
            wanted = json.loads(Path(path).read_text(encoding="utf-8")).get("train_batch_size")
        except (OSError, ValueError, AttributeError):
            continue  # the run's own settings are checked elsewhere
        if isinstance(wanted, int) and wanted % resources.ranks:
            told = f"train_batch_size {wanted} in {path} cannot be divided over {resources.ranks} ranks"
            yield Finding("batch", f"{run.name}: {told}")


def _folder(folder: Path, site: Site, runs: Sequence[Run]) -> Iterator[Finding]:
    hosts = set()
    for run in runs:
        partition = site.partition(run.resources.partition)
        hosts |= partition.hosts if partition else set()
    _, kind = disk_space.mount(folder)
    if hosts - {socket.gethostname()} and (kind in _NOT_SHARED or _is_temporary(folder)):
        told = f"is on this machine only ({kind or 'a temporary folder'}), and the jobs run on others"
        yield Finding("shared-folder", f"{folder} {told}; choose a --runs-dir that all nodes share")


def _is_temporary(folder: Path) -> bool:
    return any(folder.is_relative_to(place) for place in ("/tmp", "/var/tmp", "/dev/shm"))
