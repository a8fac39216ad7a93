"""How memory is managed: a GPU's by torch, the host's by glibc."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, MutableMapping

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


# The parameters of mallopt (malloc.h): the variable by which a user sets one, its number, and our value.
_MALLOPT = {
    "MALLOC_MMAP_MAX_": (-4, 0),  # no block of memory is a mapping of its own, returned when it is freed
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),  # the top of the heap is not returned either
    "MALLOC_TOP_PAD_": (-2, 2**26),  # the heap grows by 64 MiB
}


def keep_freed_memory(environment: Mapping[str, str]) -> bool:
    """Have glibc keep what is freed for the next step, unless the user has set its allocator up; for a CPU.

    Otherwise it returns large tensors to the kernel, and each step gets them again page by page, cleared. The
    process stays as large as it ever was.

    Returns:
        whether it does: there is glibc, and none of its variables is set.
    """
    is_set = any(environment.get(name) for name in (*_MALLOPT, "MALLOC_MMAP_THRESHOLD_"))
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if is_set or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or mallopt is None:
        return False
    return all([mallopt(number, value) == 1 for number, value in _MALLOPT.values()])
