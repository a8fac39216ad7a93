"""How the rows of a step are divided among ranks and forwards."""

from __future__ import annotations

from dataclasses import dataclass

from hyperformer.errors import ConfigError
from hyperformer.settings.schema import RunConfig, TrainingConfig


@dataclass(frozen=True)
class Batch:
    """How the rows of a step are divided: ``micro`` x ``accumulation`` x ``ranks``.

    Attributes:
        micro: rows per device and forward.
        accumulation: forwards per step.
        ranks: number of ranks now.
        ranks_at_first: number of ranks that the run started with; the settings' micro-batch and
            accumulation on each of them make the same global batch.
    """

    micro: int
    accumulation: int
    ranks: int
    ranks_at_first: int

    @property
    def global_batch_size(self) -> int:
        """Rows per step; it never changes in a run."""
        return self.micro * self.accumulation * self.ranks


def make_batch(
    config: TrainingConfig, ranks: int, *, micro_batch_splits: int = 1, global_batch_size: int | None = None
) -> Batch:
    """The batch for this number of ranks: the global batch stays, gradient accumulation changes.

    Args:
        micro_batch_splits: forwards that share what the settings call a micro-batch (recovery.json).
        global_batch_size: of the checkpoint that the run resumes from; None: the settings on
            these ranks make it.

    Raises:
        ConfigError: the global batch cannot be divided among the ranks.
    """
    rows = global_batch_size or config.rows_per_rank * ranks
    if rows % ranks:
        fit = [str(number) for number in range(1, rows + 1) if rows % number == 0]
        raise ConfigError(
            f"the run has a global batch of {rows} rows, which {ranks} ranks cannot share evenly; "
            f"{', '.join(fit)} would fit"
        )
    most = max(1, config.per_device_train_batch_size // micro_batch_splits)
    micro = next(number for number in range(most, 0, -1) if rows // ranks % number == 0)
    return Batch(micro, rows // ranks // micro, ranks, rows // config.rows_per_rank)


def check_global_batch(config: RunConfig, batch: Batch) -> None:
    """See that a step has the rows that a run with loss_reduction=sum was planned with.

    Raises:
        ConfigError: it starts on another number of ranks.
    """
    planned = (config.contents or {}).get("global_batch_size")
    if planned is not None and int(planned) != batch.global_batch_size:
        raise ConfigError(
            f"loss_reduction is sum, so the rows of a step change the result: the run was planned with {planned}, and "
            f"{batch.ranks} ranks make {batch.global_batch_size}. Start it on as many ranks as it was planned for, or "
            "submit the sweep again: with another number it is another run"
        )
