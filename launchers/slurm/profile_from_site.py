"""``sweep.py clusters init``: a first profile from what SLURM says of itself."""

from __future__ import annotations

from pathlib import Path

from hyperformer.errors import ConfigError
from hyperformer.files import atomic_write
from launchers.slurm.site import Partition, Site

_DEFAULT_MINUTES = 24 * 60


def write_profile(path: Path, site: Site) -> str:
    """Write a profile; returns its text.

    Raises:
        ConfigError: the file is there, or SLURM has no partition.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already; name another: clusters init NAME")
    text = profile_text(site)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as stream:
        stream.write(text)
    return text


def profile_text(site: Site) -> str:
    """The profile: the best partition's figures, and the other partitions as comments."""
    usable = [
        partition for partition in site.partitions.values() if partition.state == "UP" and partition.nodes
    ]
    if not usable:
        raise ConfigError(
            "SLURM shows no partition with nodes; ask its administrators, and write one by hand"
        )
    # With GPUs first; then the one that SLURM itself would take.
    best = max(usable, key=lambda one: (one.gpus_per_node > 0, one.is_default, one.nodes))
    gpus = best.gpus_per_node
    share = max(1, gpus)
    cpus = max(1, best.cpus_per_node // share)
    memory = max(1, int(best.mem_gb * 0.9 / share))
    lines = [
        "# Written by `sweep.py clusters init` from what SLURM says of itself; clusters/example.yaml shows all keys.",
        "# Partitions:",
        *(f"#   {_words(partition)}" for partition in usable),
        "resources:",
        f"  partition: {best.name}",
    ]
    if site.accounts:
        lines.append(
            f"  account: {sorted(site.accounts)[0]}          # yours: {', '.join(sorted(site.accounts))}"
        )
    lines += [
        f"  gpus_per_node: {1 if gpus else 0}         # up to {gpus}; a run starts one rank on each",
        f"  cpus_per_task: {min(cpus, 8) if gpus else 1}         # per rank; an equal share of a node is {cpus}",
        f"  mem_gb: {min(memory, 64 if gpus else 8)}               # per node; a GPU's share of it is {memory}",
        f"  time: {_time(min(best.max_minutes or _DEFAULT_MINUTES, _DEFAULT_MINUTES))}",
        "  # setup: [module load cuda, source ~/venv/bin/activate]",
        "max_parallel: 32",
        "confirm_above: 100         # GPU-hours above which `submit` asks first",
        "# offline: true            # if the nodes have no way to the internet: run `sweep.py prefetch SWEEP` first",
        "# environment: {HF_HOME: /shared/huggingface}",
    ]
    return "\n".join(lines) + "\n"


def _words(partition: Partition) -> str:
    limit = "no time limit" if partition.max_minutes is None else f"at most {_time(partition.max_minutes)}"
    features = f", features {' '.join(sorted(partition.features))}" if partition.features else ""
    return (
        f"{partition.name}{' (default)' if partition.is_default else ''}: {partition.nodes} nodes of "
        f"{partition.gpus_per_node} GPUs, {partition.cpus_per_node} cores, {partition.mem_gb:.0f} GB; {limit}{features}"
    )


def _time(minutes: int) -> str:
    days, rest = divmod(minutes, 1440)
    clock = f"{rest // 60:02}:{rest % 60:02}:00"
    return f"{days}-{clock}" if days else clock
