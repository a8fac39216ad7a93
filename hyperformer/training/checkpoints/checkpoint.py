"""Checkpoints: what a resume needs, whole or not there at all.

A checkpoint is written into a hidden folder, flushed, read back and compared
with its checksums; then it gets its manifest and its name, and only then are
older ones dropped. A start goes on from the newest that is whole. The files are
safetensors and JSON (:mod:`hyperformer.run_files.checkpoint_folder` has the layout);
nothing that is found in a checkpoint can be executed. Frozen weights are not in it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import shutil
import time
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hyperformer import __version__
from hyperformer.errors import CheckpointError, DiskFull
from hyperformer.files import flush, is_disk_full
from hyperformer.run_files.checkpoint_folder import CheckpointFolder, Manifest, checksum
from hyperformer.run_files.watchdog import PATIENT, beat
from hyperformer.training.checkpoints import engine_state
from hyperformer.training.checkpoints.tensor_file import SavedShards, write_tensors
from hyperformer.training.checkpoints.write import Writing, stage_to_cpu
from hyperformer.training.distributed import DistributedContext
from hyperformer.training.log import say
from hyperformer.training.train_state import (
    RankState,
    TrainState,
    derive_random_states,
    random_states,
    set_random_states,
)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "deepspeed")} | {
        "hyperformer": __version__
    }


class Checkpoints:
    """The checkpoints of one run. Every rank calls every method, in the same order.

    Args:
        path: the run's ``checkpoints/``.
        keep: how many to keep once a newer one is seen to be whole.
        seed: the run's; ranks that a checkpoint does not know derive their random states from it.
        background: whether :meth:`save` returns when the state is copied to the host's memory,
            and a thread writes it.
    """

    def __init__(
        self, path: Path, context: DistributedContext, keep: int, *, seed: int, background: bool = False
    ) -> None:
        self.folder, self.context, self.keep = CheckpointFolder(path), context, keep
        self.seed, self.background = seed, background
        self.save_seconds = 0.0
        self._bad: dict[str, str] = {}
        self._writing: tuple[Writing, TrainState, float] | None = None
        self._best: str | None = None
        if context.is_main:
            try:
                path.mkdir(parents=True, exist_ok=True)
                for left_over in path.glob(".*.partial"):
                    shutil.rmtree(left_over)
                for temporary in path.glob(".*.tmp"):
                    temporary.unlink()
            except OSError as error:
                raise CheckpointError(f"{path}: {error.strerror}; move it away") from error
        context.barrier()

    # Finding and loading.

    def find(self) -> tuple[str, Manifest] | None:
        """The newest checkpoint that is whole, on every rank the same; None if there never was one.

        Damaged ones are put aside, which the user is told.

        Raises:
            CheckpointError: there are checkpoints, or there were, and none can be read.
        """
        found, failure = self.context.broadcast_from_main(self._find() if self.context.is_main else None)
        if failure:
            raise CheckpointError(failure)
        return found

    def _find(self) -> tuple[tuple[str, Manifest] | None, str]:
        """What was found, and the error's message where there is one."""
        names = self.folder.names()
        for name in reversed(names):
            beat(f"verifying {name}", PATIENT)
            try:
                if name not in self._bad:
                    manifest = self.folder.verify(name)
                    self._tell(name)
                    return (name, manifest), ""
            except (CheckpointError, OSError) as error:
                self._bad[name] = str(error)
        latest = self.folder.latest()
        if not names and latest is None:
            return None, ""
        reasons = "; ".join(f"{name}: {why}" for name, why in self._bad.items())
        return None, (
            f"{self.folder.path}: no checkpoint can be read ({reasons or f'{latest} is not there any more'}). "
            "Bring one back from a copy, or move that folder away to start again"
        )

    def _tell(self, chosen: str) -> None:
        """Put what is damaged aside; say why the run does not go on from the newest."""
        for name, why in self._bad.items():
            aside = self.folder.put_aside(name, "damaged")
            say(f"{name} is damaged ({why}); kept as {aside.name}, going on from {chosen}")
        latest = self.folder.latest()
        # Put aside above, or a checkpoint that was lost; a kill between its name and `latest` leaves an older one.
        lost = latest and not self._bad and self.folder.is_newer(latest, chosen)
        if lost:
            say(f"{latest}, the newest checkpoint, is not there any more; going on from {chosen}")
        if latest != chosen:
            self.folder.set_latest(chosen)
        self._bad.clear()

    def load(self, engine: Any, name: str) -> tuple[TrainState, float]:
        """Put the engine, and this rank's random states, where a checkpoint left them.

        A checkpoint that turns out not to be readable after all is left for the one before.

        Returns:
            Where the run is, and the sum of this rank's losses since the last line.

        Raises:
            CheckpointError: none can be read.
        """
        while True:
            beat(f"loading {name}", PATIENT)
            failure, read = "", None
            try:
                read = self._read(engine, name)
            except Exception as error:
                # Its checksums are right and its content is not: someone's work, and any error may come of it.
                failure = f"it cannot be read: {type(error).__name__}: {str(error)[:200]}"
            failures = [text for text in self.context.gather(failure) if text]
            if read is not None and not failures:
                state, ranks, values, saved = read
                engine_state.load_tensors(engine, saved)
                engine_state.load_counters(engine, values)
                self._best = state.best_file[0] if state.best_file else None
                return state, self._load_rank(ranks, state.step)
            self._bad[name] = failures[0]
            found = self.find()
            assert found is not None  # there is one, damaged as it may be
            name = found[0]

    def _read(
        self, engine: Any, name: str
    ) -> tuple[TrainState, list[RankState], dict[str, Any], SavedShards]:
        """A checkpoint's content, seen to fit; changes nothing."""
        path, manifest = self.folder.path / name, self.folder.manifest(name)
        values = json.loads((path / "progress.json").read_text(encoding="utf-8"))
        state = TrainState(**values["progress"])
        numbers = range(manifest.world_size)
        ranks = [RankState(**json.loads((path / f"random-{number}.json").read_text())) for number in numbers]
        saved = SavedShards(sorted(path / file for file in manifest.files if file.endswith(".safetensors")))
        engine_state.check(engine, saved)
        return state, ranks, values["engine"], saved

    def _load_rank(self, ranks: list[RankState], step: int) -> float:
        """Random states, and the losses since the last line, for as many ranks as there are now."""
        rank, size = self.context.rank, self.context.size
        if rank < len(ranks):
            set_random_states(ranks[rank].random)
        else:
            derive_random_states(self.seed, step, rank)
        if len(ranks) == size:
            return ranks[rank].loss
        # A line has the mean over the ranks.
        return sum(part.loss for part in ranks) * size / len(ranks) if rank == 0 else 0.0

    # Saving.

    def save(self, engine: Any, state: TrainState, loss: float) -> None:
        """Save at a step boundary.

        Args:
            loss: the sum of this rank's losses since the last line.

        Raises:
            DiskFull, CheckpointError: it could not be written; the checkpoints before are untouched.
        """
        self.wait()
        beat(f"saving step {state.step}", PATIENT)
        started = time.monotonic()
        partial = self.folder.path / f".step-{state.step}.partial"
        rank = self.context.rank
        texts = {f"random-{rank}.json": dataclasses.asdict(RankState(loss, random_states()))}
        if self.context.is_main:
            values = {"progress": dataclasses.asdict(state), "engine": engine_state.counters(engine)}
            texts["progress.json"] = values
            shutil.rmtree(partial, ignore_errors=True)
        parts = engine_state.tensors(engine, rank)
        writing = Writing(partial, f"part-{rank}.safetensors", parts, texts)
        self._writing = writing, dataclasses.replace(state), started
        self._manifest = Manifest(
            step=state.step,
            files={},
            best=state.best_file,
            world_size=self.context.size,
            zero_stage=engine.zero_optimization_stage(),
            global_batch_size=engine.train_batch_size(),
            versions=_versions(),
        )
        self.context.barrier()
        if self.background:
            writing.tensors = stage_to_cpu(parts)
            writing.start()
        else:
            writing.run()
            self.wait()

    def poll(self) -> None:
        """Publish what was written in the background, if every rank has written it; raises as `save` does."""
        if self._writing is not None and all(self.context.gather(not self._writing[0].is_alive())):
            self.wait()

    def wait(self) -> None:
        """Wait for what is being written in the background, and publish it; raises as `save` does."""
        if self._writing is None:
            return
        writing, state, started = self._writing
        writing.join()
        self._writing = None
        results = self.context.gather((writing.files, writing.error and _told(writing.error)))
        failure = next((error for _, error in results if error), None)
        if failure is None and self.context.is_main:
            files = {name: entry for written, _ in results for name, entry in written.items()}
            try:
                self._publish(writing.folder, dataclasses.replace(self._manifest, files=files))
            except (OSError, CheckpointError) as error:
                failure = _told(error)
        failure = self.context.broadcast_from_main(failure)
        if failure is not None:
            if self.context.is_main:
                shutil.rmtree(writing.folder, ignore_errors=True)
            full, why = failure
            raise (DiskFull if full else CheckpointError)(
                f"checkpoint of step {state.step} could not be written to {self.folder.path}: {why}. The last "
                f"whole one is {self.folder.newest() or 'none'}; free some space and start the same command again"
            ) from writing.error
        self.save_seconds = time.monotonic() - started
        beat(f"step {state.step} saved")

    def _publish(self, partial: Path, manifest: Manifest) -> None:
        """Manifest, name, and then, when this one is whole, drop what is not needed any more."""
        self.folder.write_manifest(partial.name, manifest)
        flush(partial)
        name = self.folder.free_name(manifest.step)
        partial.rename(self.folder.path / name)
        flush(self.folder.path)
        if self.folder.manifest(name) != manifest:
            raise CheckpointError("its manifest does not read back as it was written: the disk is failing")
        self.folder.set_latest(name)
        self.folder.prune(self.keep, spare=self._best)

    # The best validation's weights.

    def save_best(self, engine: Any, step: int) -> list[str]:
        """Keep the trained weights as they are now; returns the file's name and checksum.

        Raises:
            DiskFull, CheckpointError: it could not be written.
        """
        weights = engine_state.trained_weights(engine)
        name, written, failure = f"best-{step}.safetensors", ["", ""], None
        temporary = self.folder.path / f".{name}.tmp"
        if self.context.is_main:
            try:
                written = write_tensors(temporary, list(weights.items()))
                temporary.replace(self.folder.path / name)
                flush(self.folder.path)
            except (OSError, CheckpointError) as error:
                temporary.unlink(missing_ok=True)
                failure = _told(error)
        failure, digest = self.context.broadcast_from_main((failure, written[1]))
        if failure is not None:
            full, why = failure
            raise (DiskFull if full else CheckpointError)(
                f"{self.folder.path / name} could not be written: {why}. "
                "Free some space and start the same command again"
            )
        self._best = name
        return [name, digest]

    def load_best(self, engine: Any, best_file: list[str]) -> None:
        """Put the kept weights into the model.

        Raises:
            CheckpointError: they are damaged.
        """
        path = self.folder.path / best_file[0]
        try:
            if checksum(path) != best_file[1]:
                raise CheckpointError("its checksum differs")
            with safe_open(str(path), framework="pt") as file:
                names = file.keys()
                engine_state.put_weights(engine, {name: lambda n=name: file.get_tensor(n) for name in names})
        except (OSError, SafetensorError, CheckpointError) as error:
            raise CheckpointError(
                f"{path}, the weights of the best validation, is damaged ({error}); start the same command "
                "again: it goes on from a checkpoint before that validation, if one is kept"
            ) from error


def _told(error: BaseException) -> tuple[bool, str]:
    """(whether the disk is full, why) of an error, for the other ranks."""
    return is_disk_full(error), f"{type(error).__name__}: {error}"
