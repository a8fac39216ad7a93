"""Every setting of a run: name, type, default, meaning. Imports no torch.

Settings are grouped in frozen dataclasses for the code that reads them, and
flat (one namespace) in files and on the command line, because that is how
people write them: ``{"tasks": ["rte"], "learning_rate": 3e-4}``, ``seed=2``.
:func:`make_config` is the only way from plain values to a :class:`RunConfig`.

A file has the settings of one section; :mod:`.field` says what is known of each setting.
"""

from hyperformer.settings.schema.data import DataConfig
from hyperformer.settings.schema.field import MOST, OUTPUT, PATH, PATH_OR_NAME, Bounds
from hyperformer.settings.schema.model import AdapterConfig, ModelConfig
from hyperformer.settings.schema.run import EITHER_OR, VARIANTS, RunConfig
from hyperformer.settings.schema.training import CONSTANT_SCHEDULES, EVAL_ROWS, TrainingConfig

__all__ = [
    "CONSTANT_SCHEDULES", "EITHER_OR", "EVAL_ROWS", "MOST", "OUTPUT", "PATH", "PATH_OR_NAME", "VARIANTS",
    "AdapterConfig", "Bounds", "DataConfig", "ModelConfig", "RunConfig", "TrainingConfig",
]  # fmt: skip
