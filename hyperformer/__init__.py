"""HyperFormer: parameter-efficient multi-task fine-tuning of T5 (Karimi Mahabadi et al., ACL 2021).

This package is one training job; ``launchers`` schedules many of them.
"""

__version__ = "0.1.0"
