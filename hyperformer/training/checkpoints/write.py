"""One rank's files of a checkpoint being written: at once, or by a thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperformer.run_files.watchdog import beat
from hyperformer.training.checkpoints.tensor_file import write_checked, write_tensors


class CheckpointWriter(threading.Thread):
    """Writes a rank's files into a folder: call :meth:`run`, or `start` and `join`.

    Args:
        folder: is created if needed.
        tensor_file: name of the file for `tensors`; without tensors there is none.
        texts: file name -> plain JSON.

    Attributes:
        files: file name -> [size, checksum], as in a manifest.
        table: what is in the tensor file: key -> number of elements.
        error: what went wrong, or None.
    """

    def __init__(
        self,
        folder: Path,
        tensor_file: str,
        tensors: Sequence[tuple[str, Tensor]],
        texts: dict[str, Any],
    ) -> None:
        super().__init__(name="checkpoint", daemon=True)
        self.folder, self.tensor_file, self.tensors, self.texts = folder, tensor_file, tensors, texts
        self.files: dict[str, list[Any]] = {}
        self.table = {key: tensor.numel() for key, tensor in tensors}
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            for name, value in self.texts.items():
                content = json.dumps(value).encode()
                self.files[name] = write_checked(self.folder / name, lambda content=content: [content])  # type: ignore[misc]
            if self.tensors:
                self.files[self.tensor_file] = write_tensors(self.folder / self.tensor_file, self.tensors)
        except Exception as error:
            # Raised at the next step boundary.
            self.error = error
        finally:
            self.tensors = []

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread, if it was started."""
        while self.is_alive():
            super().join(1.0)
            beat("waiting for a checkpoint to be written", 4.0)


def stage_to_cpu(tensors: Sequence[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    """Copies in CPU memory, which the next step does not change. From a GPU, all are copied at once into pinned memory.

    torch keeps pinned memory that is no longer used for the next save.
    """
    staged = []
    for key, tensor in tensors:
        on_gpu = tensor.is_cuda
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu)
        staged.append((key, copy.copy_(tensor.detach(), non_blocking=on_gpu)))
    if any(tensor.is_cuda for _, tensor in tensors):
        torch.cuda.synchronize()
    return staged
