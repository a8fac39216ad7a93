"""The container in which a cluster's jobs start python: ``container:`` in a profile.

=======  ==========================================================================
runtime  apptainer, or pyxis (srun's plugin for enroot)
image    a file that every node sees, or what the runtime fetches (docker://..., owner/name)
mounts   further folders that jobs see: PATH, PATH:INSIDE or PATH:INSIDE:ro
=======  ==========================================================================

Jobs see the sweep's folder, with the copy of the code that they run, and the user's home at their own paths.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hyperformer.files import expand_home
from hyperformer.settings.build import flatten
from hyperformer.settings.schema import OUTPUT, RunConfig
from hyperformer.settings.values import settings
from hyperformer.settings.yaml_source import YamlNode
from launchers.plan.resources import lines
from launchers.plan.sweep_keys.stages import is_not_known_yet

APPTAINER, PYXIS = "apptainer", "pyxis"
KEYS = ("runtime", "image", "mounts")
# Both runtimes separate mounts by commas and their parts by colons, and know no way to quote them.
_MOUNT = re.compile(r"/[^:,\n]*(:/[^:,\n]*(:(ro|rw))?)?")


@dataclass(frozen=True)
class JobContainer:
    """How jobs get into the container; nothing here starts one."""

    runtime: str
    image: str
    mounts: tuple[str, ...] = ()

    def python(self, inside: str | None, folder: Path, gpus: int) -> str:
        """The command, as a shell reads it, that starts python in the container.

        Args:
            inside: python's name there.
            folder: the sweep's.
            gpus: GPUs of a node that the job has.
        """
        python = inside or "python"
        if self.runtime == PYXIS:
            return python  # srun itself starts it in the container
        words = [APPTAINER, "exec"]
        if gpus:
            words.append("--nv")
        for mount in self._all(folder):
            words += ["--bind", mount]
        return f"{shlex.join([*words, self.image])} {python}"

    def srun(self, folder: Path, variables: Iterable[str]) -> list[str]:
        """What srun is told of the container.

        Args:
            variables: names of those of the job that must hold in the container, whatever the image says.
        """
        if self.runtime != PYXIS:
            return []
        return [
            f"--container-image={self.image}",
            f"--container-mounts={','.join(self._all(folder))}",
            "--container-mount-home",
            # The image's entry is for people; a job brings its own command.
            "--no-container-entrypoint",
            f"--container-env={','.join(variables)}",
        ]

    def findings(self, configs: Iterable[RunConfig], folder: Path) -> Iterator[str]:
        """A line for each thing that can be seen to be wrong before a job starts."""
        if self.image.startswith("/") and not Path(self.image).exists():
            yield f"container image {self.image}: there is no such file; docs/docker.md says how to make one"
        for text in (str(folder), self.image):
            if text.startswith("/") and not _MOUNT.fullmatch(text):
                yield f"{text}: a path with ',' or ':' cannot be named to {self.runtime}; choose another"
        seen = [Path(mount.split(":")[1]) for mount in self._all(folder)] + [expand_home("~")]
        for key, path in _paths(configs):
            # Runs of an earlier stage lie beside the sweep's folder.
            path = folder.parent if is_not_known_yet(str(path)) else path
            if not any(path.is_relative_to(place) for place in seen):
                yield f"{key} {path}: jobs do not see it in the container; add {path} to its `mounts:`"

    def _all(self, folder: Path) -> list[str]:
        """Every mount as PATH:INSIDE[:ro], the sweep's folder first."""
        return [mount if ":" in mount else f"{mount}:{mount}" for mount in (str(folder), *self.mounts)]


def _paths(configs: Iterable[RunConfig]) -> Iterator[tuple[str, Path]]:
    """The settings that name files or folders, each once."""
    found: dict[tuple[str, Path], None] = {}
    keys = [key for key, entry in settings().items() if entry.path not in ("", OUTPUT)]
    for flat in map(flatten, configs):
        for key in keys:
            value = flat[key]
            # A config's paths are absolute; other names are the hub's.
            if value is not None and value.startswith("/"):
                found[key, Path(value)] = None
    return iter(found)


def read_container(node: YamlNode) -> JobContainer:
    """The `container:` of a profile.

    Raises:
        ConfigError: with file, line and key.
    """
    entries = node.mapping(KEYS)
    for key in ("runtime", "image"):
        if key not in entries:
            node.fail(
                f"{key} is missing; write {key}: {'apptainer' if key == 'runtime' else '/shared/image.sif'}"
            )
    runtime, image = entries["runtime"], entries["image"]
    if runtime.value not in (APPTAINER, PYXIS):
        runtime.fail(f"must be {APPTAINER} or {PYXIS}, not {runtime.value_text()}")
    text = image.value
    if not isinstance(text, str) or not re.fullmatch(r"[^\s][^\n]*", text):
        image.fail(f"must be a file or a name of an image, not {image.value_text()}")
    if runtime.value == APPTAINER and not text.startswith("/") and "://" not in text:
        image.fail(f"must be an absolute path (/shared/image.sif) or an address (docker://...), not {text!r}")
    mounts = lines(entries["mounts"]) if "mounts" in entries else ()
    for mount in mounts:
        if not _MOUNT.fullmatch(mount):
            entries["mounts"].fail(f"{mount!r} must be /PATH, /PATH:/INSIDE or /PATH:/INSIDE:ro")
    return JobContainer(runtime.value, text, mounts)
