"""The trained weights of the best validation: a file beside the checkpoints, which all of them may share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hyperformer.disk_space import write_error
from hyperformer.errors import CheckpointError
from hyperformer.files import flush
from hyperformer.run_files.checkpoint_folder import checksum
from hyperformer.training.checkpoints import engine_state
from hyperformer.training.checkpoints.tensor_file import write_tensors
from hyperformer.training.ranks.distributed import DistributedContext


class BestWeights:
    """Every rank calls every method, in the same order.

    Attributes:
        names: of the files that the run needs now.
    """

    def __init__(self, path: Path, context: DistributedContext) -> None:
        self.path, self.context = path, context
        self.names: set[str] = set()

    def in_use(self, files: Sequence[list[str]]) -> None:
        """Note which files the run needs: name and checksum of each."""
        self.names = {name for name, _ in files}

    def save(self, engine: Any, step: int) -> list[str]:
        """Keep the trained weights as they are now; returns the file's name and checksum.

        Raises:
            DiskFull, CheckpointError: the file could not be written.
        """
        weights = engine_state.trained_weights(engine)
        path = self.path / f"best-{step}.safetensors"

        def write() -> str:
            temporary = self.path / f".{path.name}.tmp"
            try:
                _, digest = write_tensors(temporary, list(weights.items()))
                temporary.replace(path)
                flush(self.path)
                return digest
            except (OSError, CheckpointError) as error:
                temporary.unlink(missing_ok=True)
                raise write_error(error, path) from error

        digest = self.context.on_main(write)
        self.names.add(path.name)
        return [path.name, digest]

    def open(self, file: list[str]) -> Any:
        """The kept weights, to be read one by one.

        Raises:
            CheckpointError: the file is damaged, for one of the ranks.
        """
        path = self.path / file[0]

        def check() -> None:
            if checksum(path) != file[1]:
                raise CheckpointError("its checksum differs")

        try:
            self.context.on_main(check)
            return self.context.on_each(lambda: safe_open(str(path), framework="pt"))
        except (OSError, SafetensorError, CheckpointError) as error:
            raise CheckpointError(
                f"{path}, the weights of the best validation, is damaged ({error}); start the same command "
                "again: it resumes from a checkpoint before that validation, if one is kept"
            ) from error

    def load(self, engine: Any, file: list[str]) -> None:
        """Put the kept weights into the model; raises as :meth:`open` does."""
        reader = self.open(file)
        names = reader.keys()
        engine_state.put_weights(engine, {name: lambda n=name: reader.get_tensor(n) for name in names})
