"""Starting a run from the trained weights of another: `init_from`. The optimizer and the schedule are new."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hyperformer.adapter_folder import AdapterFiles, trained_files
from hyperformer.adapters.init_from.compatibility import compatible_rows, describe_difference
from hyperformer.adapters.model import HyperformerT5
from hyperformer.adapters.modules import task_row_parameters
from hyperformer.adapters.record import AdapterRecord, base_sizes, read_record
from hyperformer.adapters.save import check_hash, read_safetensors
from hyperformer.errors import CheckpointError, ConfigError, nearest
from hyperformer.settings.schema import RunConfig


@dataclass(frozen=True)
class Source:
    """The trained weights that a run starts from.

    Attributes:
        rows: for each row of the run's adapters or task embeddings, theirs; None: it starts from new weights.
    """

    files: AdapterFiles
    record: AdapterRecord
    rows: tuple[int | None, ...]

    def load_into(self, model: HyperformerT5, fingerprint: str | None) -> frozenset[str]:
        """Put the weights into a new model; returns the names of the parameters that have them.

        Args:
            fingerprint: of the model's T5 (:func:`hyperformer.adapters.record.base_fingerprint`); None: it
                was initialised at random.

        Raises:
            ConfigError: the weights do not fit the model.
            CheckpointError: their file is missing or damaged.
        """
        self._check_base(model, fingerprint)
        weights = read_safetensors(self.files.weights)
        check_hash(self.record, self.files)
        ours = dict(model.named_parameters())
        of_tasks = task_row_parameters(model)
        for name, weight in weights.items():
            if name not in ours:
                raise ConfigError(f"{self._where}: {name!r} has no place in this model{nearest(name, ours)}")
            self._copy(name, weight, ours[name], ours[name] in of_tasks)
        return frozenset(weights)

    @property
    def _where(self) -> str:
        return f"init_from {self.files.config.parent}"

    def _check_base(self, model: HyperformerT5, fingerprint: str | None) -> None:
        there, here = self.record.base_sizes, base_sizes(model.config)
        other = [describe_difference(key, there, here) for key in there if there[key] != here.get(key)]
        if other:
            raise ConfigError(f"{self._where}: it was trained on a T5 of other sizes: {', '.join(other)}")
        if fingerprint != self.record.base_fingerprint:
            name = self.record.base_model_name_or_path
            raise ConfigError(
                f"{self._where}: it was trained on {name!r}, and the T5 of this run has the same sizes but other "
                f"weights: write model_name_or_path={name}, or where that lies now"
            )

    @torch.no_grad()
    def _copy(self, name: str, theirs: Tensor, ours: torch.nn.Parameter, has_rows: bool) -> None:
        """Copy a weight; of one with a row for each task, the rows that the run's tasks start from."""
        if (theirs.shape[1:] if has_rows else theirs.shape) != (ours.shape[1:] if has_rows else ours.shape):
            raise ConfigError(
                f"{self._where}: {name!r} has shape {tuple(theirs.shape)} there, and {tuple(ours.shape)} here"
            )
        if not has_rows:
            ours.copy_(theirs)
            return
        for row, source in enumerate(self.rows):
            if source is not None:
                ours[row].copy_(theirs[source])


def find_source(config: RunConfig) -> Source | None:
    """What a run starts from, checked as far as that goes without loading weights; None: from T5 alone.

    Raises:
        ConfigError: its method or sizes are not the run's; the message has the difference.
        CheckpointError: there is no trained run, or its record is damaged.
    """
    if config.model.init_from is None:
        return None
    where = f"init_from {config.model.init_from}"
    files = trained_files(Path(config.model.init_from))
    if files is None:
        raise CheckpointError(f"{where}: no trained weights are there: name the folder of a run that is done")
    record = read_record(files.config)
    rows = compatible_rows(record.adapter, record.tasks, record.base_fingerprint is None, config)
    return Source(files, record, tuple(rows))
