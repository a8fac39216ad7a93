"""The checkpoints of a run on disk: their names, their manifests, whether they are complete. Imports no torch.

::

    checkpoints/
      step-400/                      a checkpoint; step-400.2 if step 400 was saved a second time
        manifest.json                every file's size and checksum, and what is needed to read them
        part-0.safetensors ...       what each rank held: trained weights and optimizer state
        random-0.json ...            each rank's random states
        progress.json                everything else
      best-200.safetensors           trained weights of the best validation; manifests have its checksum
      latest                         name of the newest: tells that there was one, should all be lost
      .step-600.partial/             being written, or left by a process that died
      .damaged-step-400/             renamed by a run that resumed from the one before
      .diverged-step-400/            renamed by recovery.step_back
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.errors import CheckpointError, FileError
from hyperformer.files import atomic_write, read_json, write_json

SCHEMA = 1
MANIFEST = "manifest.json"
_CHUNK = 1 << 22


def checksum(path: Path) -> str:
    """BLAKE2b of a file's content, 32 hex digits; about 1 GB per second and core.

    Where the system can do that, the file's pages are dropped from memory first,
    so that the content comes from the disk.
    """
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as stream:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of, and what is needed to read it.

    Attributes:
        step: optimizer steps done.
        files: name in the checkpoint's folder -> [bytes, checksum].
        best: [name in checkpoints/, checksum] of the best validation's weights, if there was one.
        world_size: ranks that wrote it.
        zero_stage: of the engine that wrote it.
        global_batch_size: rows per step, of all ranks; kept when the run resumes on other ranks.
        versions: of the packages that wrote it.
        schema: of this format.
    """

    step: int
    files: dict[str, list[Any]]
    best: list[str] | None
    world_size: int
    zero_stage: int
    global_batch_size: int
    versions: dict[str, str]
    schema: int = SCHEMA


class CheckpointFolder:
    """Names and contents of a run's ``checkpoints/``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self) -> None:
        """Create the folder, and remove what writers that were killed have left.

        Raises:
            CheckpointError: the folder cannot be used.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for partial in self.path.glob(".*.partial"):
                shutil.rmtree(partial)
            for temporary in self.path.glob(".*.tmp"):
                temporary.unlink()
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror}; move it away") from error

    def names(self) -> list[str]:
        """The checkpoints, oldest first; a folder gets such a name only when it is complete."""
        found = (path.name for path in self.path.glob("step-*") if path.is_dir())
        return sorted(
            (name for name in found if _order(name) is not None), key=lambda name: _order(name) or ()
        )

    def newest(self) -> str | None:
        """Name of the newest checkpoint; None if there is none."""
        names = self.names()
        return names[-1] if names else None

    def free_name(self, step: int) -> str:
        """A name for a checkpoint of `step`, newer than every other of that step."""
        numbers = [_order(name)[1] for name in self.names() if _order(name)[0] == step]  # type: ignore[index]
        return f"step-{step}" if not numbers else f"step-{step}.{max(numbers) + 1}"

    def latest(self) -> str | None:
        """The checkpoint that was the newest when the last one was written."""
        try:
            return (self.path / "latest").read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None

    def set_latest(self, name: str | None) -> None:
        """Note the newest checkpoint, or that there is none."""
        if name is None:
            (self.path / "latest").unlink(missing_ok=True)
            return
        with atomic_write(self.path / "latest") as stream:
            stream.write(name)

    def is_newer(self, name: str, other: str) -> bool:
        """Whether `name` is a checkpoint's, and newer than `other`."""
        return (_order(name) or (-1, 0)) > (_order(other) or (-1, 0))

    def manifest(self, name: str) -> Manifest:
        """A checkpoint's manifest.

        Raises:
            CheckpointError: it is missing or damaged, or of a version that this one cannot read.
        """
        try:
            values = read_json(self.path / name / MANIFEST)
        except (OSError, FileError, RecursionError) as error:
            raise CheckpointError(f"its {MANIFEST} is damaged: {type(error).__name__}") from error
        if values is None:
            raise CheckpointError(
                f"it has no {MANIFEST}: it was written by an earlier version, or is not complete"
            )
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise CheckpointError(
                f"its {MANIFEST} is not of schema {SCHEMA}, the one that this version reads"
            )
        if values.pop("checksum", None) != _checksum_of(values):
            raise CheckpointError(f"its {MANIFEST} is not as it was written (its checksum differs)")
        try:
            return Manifest(**values)
        except TypeError as error:
            raise CheckpointError(f"its {MANIFEST} is damaged: {error}") from error

    def write_manifest(self, name: str, manifest: Manifest) -> None:
        """Write a manifest, with a checksum of its own."""
        values = dataclasses.asdict(manifest)
        write_json(self.path / name / MANIFEST, {**values, "checksum": _checksum_of(values)})

    def verify(self, name: str) -> Manifest:
        """Check that a checkpoint is complete and bit-identical to what was written.

        Raises:
            CheckpointError: what is wrong with it, as a clause ("part-0.safetensors is missing").
        """
        manifest = self.manifest(name)
        self.check_files(name, manifest)
        return manifest

    def check_files(self, name: str, manifest: Manifest, share: tuple[int, int] = (0, 1)) -> None:
        """Check that a checkpoint's files are bit-identical to what was written.

        Args:
            share: (rank, ranks): check only the files that fall to this one of several readers.

        Raises:
            CheckpointError: what is wrong with it, as in :meth:`verify`.
        """
        rank, ranks = share
        try:
            files = [
                (self.path / name / file, expected, size) for file, (size, expected) in manifest.files.items()
            ]
            files.sort(key=lambda file: (-file[2], file[0].name))
            if manifest.best is not None:
                files.insert(0, (self.path / manifest.best[0], manifest.best[1], None))
            for path, expected, size in files[rank::ranks]:
                _check_file(path, expected, size)
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(f"its {MANIFEST} is damaged: {error}") from error

    def retire(self, name: str, why: str) -> Path:
        """Rename a checkpoint to ``.<why>-<name>``, which nothing reads or removes; returns the new path."""
        number, renamed = 1, self.path / f".{why}-{name}"
        while renamed.exists():
            number += 1
            renamed = self.path / f".{why}-{name}-{number}"
        (self.path / name).rename(renamed)
        return renamed

    def disk_size(self) -> int | None:
        """Bytes that the folder takes, and what a :meth:`remove` that was killed has left; None: it is not there."""
        there = [path for path in (self.path, self._removed) if path.exists()]
        if not there:
            return None
        return sum(file.lstat().st_blocks * 512 for path in there for file in path.rglob("*"))

    def remove(self) -> None:
        """Remove all checkpoints. One that is killed leaves no half of a checkpoint under a checkpoint's name."""
        if self._removed.exists():
            shutil.rmtree(self._removed)
        if self.path.exists():
            self.path.rename(self._removed)
            shutil.rmtree(self._removed)

    @property
    def _removed(self) -> Path:
        return self.path.with_name(f".{self.path.name}.removed")

    def prune(self, keep: int, spare: Collection[str] = ()) -> None:
        """Remove all but the newest `keep` checkpoints, and best weights that none of them needs.

        Args:
            spare: best weights to keep whatever the checkpoints say.
        """
        for name in self.names()[:-keep]:
            shutil.rmtree(self.path / name)
        needed: set[str] = set()
        for manifest in self.path.glob(f"*/{MANIFEST}"):
            try:
                best = self.manifest(manifest.parent.name).best
            except CheckpointError:
                # It cannot say which it needs, so nothing is removed.
                return
            if best is not None:
                needed.add(best[0])
        for path in self.path.glob("best-*.safetensors"):
            if path.name not in needed and path.name not in spare:
                path.unlink()


def _checksum_of(values: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _order(name: str) -> tuple[int, int] | None:
    """(step, number among those of that step); None for a name that is not a checkpoint's."""
    step, _, number = name.removeprefix("step-").partition(".")
    if not (step.isdecimal() and (number.isdecimal() or not number)):
        return None
    return int(step), int(number or 1)


def _check_file(path: Path, expected: str, size: int | None = None) -> None:
    try:
        there = path.stat().st_size
        if size is not None and there != size:
            raise CheckpointError(f"{path.name} has {there:,} bytes of {size:,}")
        if checksum(path) != expected:
            raise CheckpointError(f"{path.name} is not as it was written (its checksum differs)")
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is missing") from None
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from error
