"""All settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hyperformer.settings.methods import METHODS
from hyperformer.settings.schema.data import DataConfig
from hyperformer.settings.schema.field import OUTPUT, SEED, setting
from hyperformer.settings.schema.model import AdapterConfig, ModelConfig
from hyperformer.settings.schema.training import TrainingConfig

# Settings that say the same: a run is given one of each pair.
EITHER_OR = (("max_steps", "num_train_epochs"), ("warmup_steps", "warmup_ratio"))

VARIANTS = (
    "hyperformer++",
    "hyperformer++-stable",
    "hyperformer",
    "adapters_dagger",
    "adapters",
    "finetune",
    "finetune_single_task",
)


@dataclass(frozen=True)
class RunConfig:
    """One training job, complete. Made by :func:`make_config`.

    Attributes:
        contents: setting -> hash of what the file or folder that it names held when the run was
            planned or started; None: that was never recorded.
        known_as: the run's signature where it cannot be computed: the run is of a version that did not
            hash contents, or the files cannot be read here any more.
    """

    variant: str = setting("custom", "name of the tuning method in tables")
    single_task: bool = setting(False, "several tasks are trained one at a time, each from the start")
    seed: int = setting(42, "of weights, data order and dropout", bounds=SEED)
    output_dir: str = setting("outputs", "folder of the run's files", result=False, path=OUTPUT)
    model: ModelConfig = field(default_factory=ModelConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    contents: Mapping[str, str] | None = field(default=None, hash=False)
    known_as: str | None = None

    @property
    def task_prefix(self) -> bool:
        """Whether sources start with the task's name: the adapters know the task, plain T5 must be told."""
        if self.data.task_prefix is None:
            return not METHODS[self.adapter.adapter].knows_task
        return self.data.task_prefix

    @property
    def validates(self) -> bool:
        """Whether validation during training picks the checkpoint to keep."""
        return self.training.do_eval and self.training.eval_steps > 0

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that the run reads."""
        more = (("validation", self.validates), ("test", self.training.do_test))
        return ("train", *(split for split, is_read in more if is_read))
