"""How torch manages a GPU's memory."""

from __future__ import annotations

from collections.abc import MutableMapping

import torch

# The names that torch reads: the first that is set counts. All versions know the first.
_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def use_expandable_segments(environment: MutableMapping[str, str]) -> None:
    """Have torch's segments of a GPU's memory grow, unless the user has set its allocator up.

    Batches differ in length from step to step. In segments of fixed sizes that leaves gaps which are
    taken, and fit no later batch. Call it before CUDA is first used. Without CUDA it does nothing.
    """
    if torch.version.cuda and not any(environment.get(name) for name in _VARIABLES):
        environment[_VARIABLES[0]] = "expandable_segments:True"
