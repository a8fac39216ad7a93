"""How torch manages a GPU's memory."""

from __future__ import annotations

from collections.abc import MutableMapping

# The names that torch reads, the first one that is set; all versions know the first.
_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def use_expandable_segments(environment: MutableMapping[str, str]) -> None:
    """Have segments of GPU memory grow, unless the user has set torch's allocator up.

    Batches differ in length from step to step. In segments of fixed sizes that leaves gaps, which
    count as taken and fit no later batch. To be called before CUDA is first used.
    """
    if not any(environment.get(name) for name in _VARIABLES):
        environment[_VARIABLES[0]] = "expandable_segments:True"
