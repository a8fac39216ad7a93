"""Checkpoints: what a resume needs, complete or not there at all.

A checkpoint is written into a hidden folder, flushed, read back and compared
with its checksums. Then it gets its manifest and its name, and only then are
older ones removed. A run resumes from the newest that is complete. The files are
safetensors and JSON (:mod:`hyperformer.run_files.checkpoint_folder` has the layout);
nothing in a checkpoint can be executed. Frozen weights are not in it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer import __version__
from hyperformer.disk_space import write_error
from hyperformer.errors import CheckpointError
from hyperformer.files import flush
from hyperformer.run_files.checkpoint_folder import CheckpointFolder, Manifest
from hyperformer.run_files.watchdog import PATIENT, beat
from hyperformer.training.checkpoints import engine_state
from hyperformer.training.checkpoints.best_weights import BestWeights
from hyperformer.training.checkpoints.content import read_content
from hyperformer.training.checkpoints.find import find_newest
from hyperformer.training.checkpoints.saved_shards import ShardIndex
from hyperformer.training.checkpoints.write import CheckpointWriter, stage_to_cpu
from hyperformer.training.numerics.finite import trained_weights_are_finite
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.train_state import (
    RankState,
    TrainState,
    derive_random_states,
    random_states,
    set_random_states,
)


def _versions() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in ("torch", "deepspeed")}
    return {**packages, "hyperformer": __version__}


@dataclass
class _Pending:
    """A checkpoint that is being written.

    Attributes:
        trained: what it must hold: parameter -> number of elements.
        started: on the monotonic clock.
    """

    writing: CheckpointWriter
    manifest: Manifest
    trained: dict[str, int]
    started: float


class Checkpoints:
    """The checkpoints of one run. Every rank calls every method, in the same order.

    Args:
        path: the run's ``checkpoints/``.
        keep: how many to keep once a newer one is verified.
        seed: the run's; ranks that a checkpoint does not know derive their random states from it.
        background: :meth:`save` returns when the state is copied to the host's memory, and a
            thread writes it.

    Attributes:
        found: name and manifest of the checkpoint to resume from, after :meth:`find`.
        best: the weights of the best validation.
        save_seconds: how long the last save took.
    """

    def __init__(
        self, path: Path, context: DistributedContext, keep: int, *, seed: int, background: bool = False
    ) -> None:
        self.folder, self.context, self.keep = CheckpointFolder(path), context, keep
        self.seed, self.background = seed, background
        self.best = BestWeights(path, context)
        self.found: tuple[str, Manifest] | None = None
        self.save_seconds = 0.0
        self._damaged: dict[str, str] = {}
        self._pending: _Pending | None = None
        context.on_main(self.folder.make)

    # Finding and loading.

    def find(self) -> Manifest | None:
        """The manifest of the newest complete checkpoint, the same on every rank; None if there never was one.

        Damaged ones are renamed, and the user is told.

        Raises:
            CheckpointError: there are checkpoints, or there were, and none can be read.
        """
        self.found = find_newest(self.folder, self._damaged, self.context)
        return self.found and self.found[1]

    def load(self, engine: Any) -> tuple[TrainState, float]:
        """Put the engine, and this rank's random states, where the checkpoint that was found left them.

        If that one cannot be read after all, the one before it is taken.

        Returns:
            Where the run is, and the sum of this rank's losses since the last log line.

        Raises:
            CheckpointError: none can be read.
        """
        while True:
            assert self.found is not None  # there is one, or `find` has raised
            name, manifest = self.found
            beat(f"loading {name}", PATIENT)
            try:
                trained = engine_state.trained_sizes(engine)
                content = read_content(self.folder.path / name, manifest, trained, self.context)
            except Exception as error:
                # Its checksums are right and its content is not: made by hand, so any error is possible.
                self._damaged[name] = f"it cannot be read: {type(error).__name__}: {str(error)[:200]}"
                self.find()
                continue
            engine_state.load_tensors(engine, content.shards)
            if not self._is_finite(engine):
                self._damaged[name] = "its weights are not finite numbers"
                self.find()
                continue
            engine_state.load_counters(engine, content.counters)
            self.best.in_use(content.state.best_files)
            if content.mine is not None:
                set_random_states(content.mine.random)
            else:
                derive_random_states(self.seed, content.state.step, self.context.rank)
            return content.state, content.loss

    def _is_finite(self, engine: Any) -> bool:
        """Whether the weights are finite on all ranks: earlier versions saved what was not."""
        return all(self.context.gather(bool(trained_weights_are_finite(engine))))

    # Saving.

    def save(self, engine: Any, state: TrainState, loss: float) -> None:
        """Save at a step boundary.

        Args:
            loss: the sum of this rank's losses since the last log line.

        Raises:
            DiskFull, CheckpointError: it could not be written; earlier checkpoints are untouched.
        """
        self.wait()
        beat(f"saving step {state.step}", PATIENT)
        started, rank = time.monotonic(), self.context.rank
        partial = self.folder.path / f".step-{state.step}.partial"
        texts = {f"random-{rank}.json": dataclasses.asdict(RankState(loss, random_states()))}
        if self.context.is_main:
            texts["progress.json"] = {
                "progress": dataclasses.asdict(state),
                "engine": engine_state.counters(engine),
            }
            shutil.rmtree(partial, ignore_errors=True)
        manifest = Manifest(
            step=state.step,
            files={},
            best=state.best_file,
            world_size=self.context.size,
            zero_stage=engine.zero_optimization_stage(),
            global_batch_size=engine.train_batch_size(),
            versions=_versions(),
        )
        tensors = engine_state.tensors(engine, rank)
        writing = CheckpointWriter(partial, f"part-{rank}.safetensors", tensors, texts)
        self._pending = _Pending(writing, manifest, engine_state.trained_sizes(engine), started)
        self.context.barrier()
        if self.background:
            writing.tensors = stage_to_cpu(tensors)
            writing.start()
        else:
            writing.run()
            self.wait()

    def poll(self) -> None:
        """Publish what was written in the background, if every rank has written it; raises as `save` does."""
        if self._pending is not None and all(self.context.gather(not self._pending.writing.is_alive())):
            self.wait()

    def wait(self) -> None:
        """Wait for what is being written in the background, and publish it; raises as `save` does."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        writing, step = pending.writing, pending.manifest.step
        writing.join()
        error = writing.error and write_error(writing.error, writing.folder)
        failures = [failure for failure in self.context.gather(error) if failure is not None]
        written = self.context.gather_on_main((writing.files, {writing.tensor_file: writing.table}))

        def publish() -> None:
            tables = {file: table for _, each in written for file, table in each.items()}
            ShardIndex(tables).check(pending.trained)
            files = {name: entry for names, _ in written for name, entry in names.items()}
            self._publish(writing.folder, dataclasses.replace(pending.manifest, files=files))

        try:
            if failures:
                raise failures[0]
            self.context.on_main(publish)
        except CheckpointError as failure:
            if self.context.is_main:
                shutil.rmtree(writing.folder, ignore_errors=True)
            raise type(failure)(
                f"the checkpoint of step {step} was not saved: {failure}. The last complete checkpoint is "
                f"{self.folder.newest() or 'none'}"
            ) from (writing.error or failure)
        self.save_seconds = time.monotonic() - pending.started
        beat(f"step {step} saved")

    def _publish(self, partial: Path, manifest: Manifest) -> None:
        """Write the manifest, rename the folder, verify it, and then remove what is no longer needed."""
        try:
            self.folder.write_manifest(partial.name, manifest)
            flush(partial)
            name = self.folder.free_name(manifest.step)
            partial.rename(self.folder.path / name)
            flush(self.folder.path)
            if self.folder.manifest(name) != manifest:
                raise CheckpointError(
                    "its manifest does not read back as it was written: the disk is failing"
                )
            self.folder.set_latest(name)
            self.folder.prune(self.keep, spare=self.best.names)
        except OSError as error:
            raise write_error(error, self.folder.path) from error
