"""Checkpoints: what a resume needs, whole or not there at all.

A checkpoint is a folder ``step-<n>`` with DeepSpeed's files (trained
parameters, optimizer, schedule, loss scaler, our :class:`Progress`) and each
rank's random states. It is written under another name, flushed, and renamed;
then ``latest`` is pointed at it. Frozen weights are not in it.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hyperformer.adapters.save import write_safetensors
from hyperformer.errors import CheckpointError
from hyperformer.files import atomic_write, flush
from hyperformer.training.distributed import World
from hyperformer.training.engine import is_partitioned

Metrics = dict[str, dict[str, float]]


@dataclass
class Progress:
    """Everything beside weights, optimizer and random states that a resume needs.

    Attributes:
        step: optimizer steps done.
        sampler: exact position in every task's stream.
        best_step: step of the best validation so far, 0 before the first.
        best_metric: its average metric, percent.
        best_metrics: its metrics a task.
        train_seconds: spent in training steps by all attempts.
        evaluate_seconds: spent in evaluation by all attempts.
    """

    step: int = 0
    sampler: dict[str, Any] = field(default_factory=dict)
    best_step: int = 0
    best_metric: float | None = None
    best_metrics: Metrics = field(default_factory=dict)
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0


def random_states() -> dict[str, Any]:
    """State of every random generator of this process, as plain values and tensors."""
    numpy_state: Any = np.random.get_state(legacy=True)
    kind, keys, *rest = numpy_state
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """The inverse of :func:`random_states`."""
    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: the run's ``checkpoints/``.
        keep: how many to keep.
    """

    def __init__(self, folder: Path, world: World, keep: int) -> None:
        self.folder, self.world, self.keep = folder, world, keep
        if world.is_main:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CheckpointError(f"{folder}: {error.strerror}; move it away") from error
            for left_over in folder.glob(".*.partial"):
                shutil.rmtree(left_over)
        world.barrier()

    def save(self, engine: Any, progress: Progress) -> None:
        """Save at a step boundary; every rank calls this.

        Raises:
            CheckpointError: the disk is full or fails; the checkpoints before are untouched.
        """
        tag = f"step-{progress.step}"
        partial = self.folder / f".{tag}.partial"
        failure = None
        try:
            with _tied_weights_once(engine.module):
                engine.save_checkpoint(
                    str(self.folder),
                    tag=partial.name,
                    client_state={"progress": dataclasses.asdict(progress)},
                    save_latest=False,
                    exclude_frozen_parameters=True,
                )
            torch.save(random_states(), partial / f"random-{self.world.rank}.pt")
        except (OSError, RuntimeError) as error:
            # torch raises RuntimeError where a file could not be written in full.
            failure = error
        failures = [text for text in self.world.gather(failure and str(failure)) if text]
        if failures:
            if self.world.is_main:
                shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(
                f"checkpoint of step {progress.step} could not be written to {self.folder}: {failures[0]}. "
                f"The last whole one is {self.latest() or 'none'}; free some space and start the same command again"
            ) from failure
        if self.world.is_main:
            self._publish(partial, tag)
            self._prune(progress)
        self.world.barrier()

    def _publish(self, partial: Path, tag: str) -> None:
        """Flush, rename, and only then point `latest` at it."""
        for path in [*partial.iterdir(), partial]:
            flush(path)
        final = self.folder / tag
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        flush(self.folder)
        with atomic_write(self.folder / "latest") as stream:
            stream.write(tag)

    def _prune(self, progress: Progress) -> None:
        """Drop what no kept checkpoint needs."""
        for step in self._steps()[: -self.keep]:
            shutil.rmtree(self.folder / f"step-{step}")
        for path in self.folder.glob("best-*.safetensors"):
            if path != self.best_file(progress.best_step):
                path.unlink()

    def _steps(self) -> list[int]:
        """The steps of the checkpoints there are, in order. A folder gets its name when it is whole."""
        names = (path.name.removeprefix("step-") for path in self.folder.glob("step-*"))
        return sorted(int(name) for name in names if name.isdigit())

    def latest(self) -> str | None:
        """Name of the newest whole checkpoint, or None."""
        try:
            named = (self.folder / "latest").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            named = ""
        return named or (f"step-{self._steps()[-1]}" if self._steps() else None)

    def load_latest(self, engine: Any) -> Progress | None:
        """Put the engine, and this rank's random states, where the newest checkpoint left them.

        Returns:
            The progress there, or None if there is no checkpoint.

        Raises:
            CheckpointError: it is damaged, or was written by another number of ranks.
        """
        tag = self.latest()
        if tag is None:
            return None
        others = ", ".join(f"step-{step}" for step in self._steps() if f"step-{step}" != tag)
        remedy = (
            f"write the name of another one into {self.folder / 'latest'} (there are: {others or 'none'}), "
        )
        remedy += f"or move {self.folder} away to start again"
        if not (self.folder / tag).is_dir():
            raise CheckpointError(f"{self.folder / tag}, which 'latest' names, is not there; {remedy}")
        ranks = len(list((self.folder / tag).glob("random-*.pt")))
        if ranks not in (0, self.world.size):
            raise CheckpointError(
                f"{self.folder / tag} was written by {ranks} processes, and this run has {self.world.size}: "
                "start it with as many"
            )
        try:
            _, state = engine.load_checkpoint(str(self.folder), tag=tag, load_module_strict=False)
            randoms = torch.load(self.folder / tag / f"random-{self.world.rank}.pt", weights_only=True)
        except Exception as error:
            # torch and DeepSpeed raise almost anything for a file that is damaged.
            why = (
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            )
            raise CheckpointError(f"{self.folder / tag} is damaged ({why}); {remedy}") from error
        set_random_states(randoms)
        return Progress(**state["progress"])

    def best_file(self, step: int) -> Path:
        """Where the trained weights of the best validation are kept."""
        return self.folder / f"best-{step}.safetensors"

    def save_best(self, engine: Any, step: int) -> None:
        """Keep the trained weights as they are now; every rank calls this."""
        weights = trained_weights(engine)
        if self.world.is_main:
            write_safetensors(weights, self.best_file(step))
        self.world.barrier()

    def load_best(self, engine: Any, step: int) -> None:
        """Put the kept weights into the model; every rank calls this."""
        import deepspeed

        try:
            weights = load_file(self.best_file(step))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{self.best_file(step)}, the weights of the best validation, is damaged ({error}); "
                f"move {self.folder} away to start again"
            ) from error
        for name, parameter in engine.module.named_parameters():
            if name in weights:
                # For a partitioned parameter this gathers, and shares out what rank 0 has written.
                with (
                    deepspeed.zero.GatheredParameters(
                        parameter, modifier_rank=0, enabled=is_partitioned(engine)
                    ),
                    torch.no_grad(),
                ):
                    if not is_partitioned(engine) or self.world.is_main:
                        parameter.copy_(weights[name].to(parameter.device))


@contextmanager
def _tied_weights_once(module: torch.nn.Module) -> Iterator[None]:
    """Within this block `module.state_dict()` has tied weights under their first name only.

    DeepSpeed leaves frozen weights out by name, and would keep T5's frozen
    embeddings under the names that are tied to them.
    """
    once = {name for name, _ in module.named_parameters()}
    copies = [name for name, _ in module.named_parameters(remove_duplicate=False) if name not in once]

    def drop(_module: torch.nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
        for name in copies:
            state.pop(prefix + name, None)

    handle = module.register_state_dict_post_hook(drop)
    try:
        yield
    finally:
        handle.remove()


def trained_weights(engine: Any, frozen_too: str | None = None) -> dict[str, torch.Tensor]:
    """The parameters that train, by name, on the CPU; on every rank. Every rank calls this.

    Args:
        frozen_too: with those whose names start so, even if they do not train.
    """
    import deepspeed

    weights = {}
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad or (frozen_too is not None and name.startswith(frozen_too)):
            with deepspeed.zero.GatheredParameters(parameter, enabled=is_partitioned(engine)):
                weights[name] = parameter.detach().cpu().clone()
    return weights
