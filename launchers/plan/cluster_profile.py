"""A cluster's profile: what one site asks of every job. ``clusters/*.yaml``, named by ``--cluster``.

=============  =====================================================================
description    a line for people
resources      defaults of every run; the sweep file's `resources:` go on top
max_parallel   jobs of a sweep at once at most
confirm_above  GPU-hours above which `submit` asks first
environment    variables of the jobs
cluster        another cluster than the site's default: what SLURM's commands take as --clusters
offline        whether the nodes have no way to the Hugging Face hub
retries        how often a run starts again by itself, by kind of failure: a number, or `unlimited`
stop_after     runs that fail with the same traceback before the rest of the sweep is held; 0: never
renew_report   whether jobs that end renew the page of the report; false: only `report` writes it
python         how to start python on a node, or in the container: a command, or a list of its words
container      the container in which jobs start python: launchers/plan/container.py
=============  =====================================================================
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hyperformer.settings.shipped import ShippedFiles
from hyperformer.settings.yaml_source import YamlNode, read_yaml
from launchers.plan.container import JobContainer, read_container
from launchers.plan.resources import Resources, flag, lines, positive_number, read_resources, whole_number
from launchers.plan.retry_policy import RetryPolicy, read_retry_policy

LOCAL, SLURM = "local", "slurm"
_LAUNCHERS = Path(__file__).parent.parent
PROFILES = ShippedFiles(
    "profile", ".yaml", (_LAUNCHERS / "clusters", _LAUNCHERS.parent / "clusters", Path("clusters")),
    ("clusters",), (LOCAL, SLURM), " ('sweep.py clusters init' writes one for this site)",
)  # fmt: skip
KEYS = (
    "description", "resources", "max_parallel", "confirm_above", "environment", "offline", "retries", "stop_after",
    "python", "container", "cluster", "renew_report",
)  # fmt: skip


@dataclass(frozen=True)
class ClusterProfile:
    """A profile, read. `source` is None for plain `slurm` and `local`."""

    name: str
    source: Path | None = None
    resources: Resources = field(default_factory=Resources)
    max_parallel: int | None = None
    confirm_above: float | None = None
    environment: tuple[tuple[str, str], ...] = ()
    offline: bool = False
    slurm_cluster: str | None = None
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    python: str | None = None
    container: JobContainer | None = None
    renew_report: bool = True

    @property
    def is_local(self) -> bool:
        return self.name == LOCAL and self.source is None

    @property
    def host_python(self) -> str:
        """The shell words that start python on a node itself, outside of a container."""
        return self.python if self.python and self.container is None else shlex.quote(sys.executable)

    @property
    def cluster_argument(self) -> str:
        """What `--cluster` takes to find it again."""
        return self.name if self.source is None else str(self.source)


NO_PROFILE = ClusterProfile(SLURM)


def load_profile(name: str) -> ClusterProfile:
    """The profile for `--cluster NAME`: local, slurm (no profile), a profile's name, or its file.

    Raises:
        ConfigError: there is none of that name, or its file is wrong (with line).
    """
    if name in (LOCAL, SLURM) and not os.path.isfile(name):
        return NO_PROFILE if name == SLURM else ClusterProfile(LOCAL)
    return read_profile(PROFILES.find(name))


def read_profile(path: Path) -> ClusterProfile:
    """Read and check a profile. Raises ConfigError with file, line and key."""
    _, root = read_yaml(path)
    top = root.mapping(KEYS)
    resources = read_resources(top["resources"], Resources()) if "resources" in top else Resources()
    return ClusterProfile(
        name=path.stem,
        source=path.absolute(),
        resources=resources,
        max_parallel=whole_number(top["max_parallel"], 1) if "max_parallel" in top else None,
        confirm_above=positive_number(top["confirm_above"], "GPU-hours") if "confirm_above" in top else None,
        environment=_environment(top.get("environment")),
        slurm_cluster=_slurm_cluster(top.get("cluster")),
        offline="offline" in top and flag(top["offline"]),
        retry_policy=read_retry_policy(top.get("retries"), top.get("stop_after")),
        python=_python(top.get("python")),
        container=read_container(top["container"]) if "container" in top else None,
        renew_report="renew_report" not in top or flag(top["renew_report"]),
    )


def _environment(node: YamlNode | None) -> tuple[tuple[str, str], ...]:
    entries: Mapping[str, YamlNode] = node.mapping() if node else {}
    found = []
    for name, entry in entries.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            entry.fail(f"{name!r} cannot name an environment variable")
        if isinstance(entry.value, dict | list) or entry.value is None:
            entry.fail(f"must be the variable's value, not {entry.value_text()}")
        value = entry.value if isinstance(entry.value, str) else str(entry.value).lower()
        if "\0" in value:
            entry.fail(f"cannot be the value of a variable: {entry.value_text()}")
        found.append((name, value))
    return tuple(found)


def _slurm_cluster(node: YamlNode | None) -> str | None:
    """One cluster: with several, SLURM would choose, and its job ids mean nothing without the choice."""
    if node is None or node.value is None:
        return None
    if (
        not isinstance(node.value, str)
        or not re.fullmatch(r"[A-Za-z0-9_.-]+", node.value)
        or node.value == "all"
    ):
        node.fail(
            f"must be the name of one cluster (`sacctmgr show clusters` lists them), not {node.value_text()}"
        )
    return node.value


def _python(node: YamlNode | None) -> str | None:
    """The shell words that start python: of a command, of a list of its words, or of a path with blanks."""
    if node is None or node.value is None:
        return None
    if isinstance(node.value, list):
        return shlex.join(lines(node))
    text = node.value
    if not isinstance(text, str) or not text.strip() or re.search(r"[\x00-\x1f]", text):
        node.fail(f"must be one line of text, or a list of words, not {node.value_text()}")
    if os.path.isfile(text):
        return shlex.quote(text)
    try:
        words = shlex.split(text)
    except ValueError as error:
        node.fail(f"cannot be read by a shell: {error}")
    # A command with arguments, or one path with blanks? Only what is here, or written as words, can tell.
    if len(words) > 1 and os.path.isabs(words[0]) and not os.path.isfile(words[0]):
        node.fail(
            f"{words[0]} is not on this machine, so it cannot be told whether a path has blanks or a command has "
            f"arguments. Write the words as a list: python: {words} or python: [{text!r}]"
        )
    return text
