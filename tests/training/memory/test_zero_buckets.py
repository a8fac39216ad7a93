"""The sizes of ZeRO's buffers, and the set-up of the allocators, torch's and glibc's."""

from __future__ import annotations

import multiprocessing
import resource

import pytest
import torch
from torch import nn

from hyperformer.training.memory.allocator import keep_freed_memory, use_expandable_segments
from hyperformer.training.memory.zero_buckets import size_buckets


def model(frozen: int, trained: int) -> nn.ParameterList:
    made = nn.ParameterList(
        [nn.Parameter(torch.empty(size, device="meta")) for size in (frozen, trained) if size]
    )
    made[0].requires_grad = not frozen
    return made


def zero(stage: int, frozen: int, trained: int, **given: object) -> dict:
    return size_buckets({"zero_optimization": {"stage": stage, **given}}, model(frozen, trained))[
        "zero_optimization"
    ]


def test_buckets_are_as_large_as_what_trains() -> None:
    # T5-base and adapters; then all of it.
    assert zero(2, 223_000_000, 999_999) == {
        "stage": 2, "reduce_bucket_size": 1_000_000, "allgather_bucket_size": 1_000_000,
    }  # fmt: skip
    assert zero(1, 0, 223_000_000)["reduce_bucket_size"] == 50_000_000
    assert zero(0, 100, 10) == {"stage": 0}
    assert zero(1, 100, 0)["reduce_bucket_size"] == 2  # DeepSpeed takes no 0


def test_stage_3_does_not_keep_the_whole_model() -> None:
    sizes = zero(3, 220_000_000, 1_000_000)
    assert sizes["stage3_max_live_parameters"] == sizes["stage3_max_reuse_distance"] == 55_250_000
    assert sizes["stage3_prefetch_bucket_size"] == 11_050_000


def test_what_the_user_says_stays() -> None:
    sizes = zero(3, 1_000, 10, reduce_bucket_size=7, stage3_max_live_parameters="auto")
    assert sizes["reduce_bucket_size"] == 7 and sizes["stage3_max_live_parameters"] == 252


@pytest.mark.parametrize(
    ("cuda", "before", "expected"),
    [
        ("12.8", {}, "expandable_segments:True"),
        ("12.8", {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, "backend:cudaMallocAsync"),
        ("12.8", {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}, None),
        (None, {}, None),
    ],
)
def test_the_allocator(
    cuda: str | None, before: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    use_expandable_segments(before)
    assert before.get("PYTORCH_CUDA_ALLOC_CONF") == expected


def _faults() -> int:
    """Page faults (4 KiB each) of 64 MiB that are taken once more."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _check_freed_memory() -> None:
    assert min(_faults() for _ in range(3)) > 10_000
    assert keep_freed_memory({"GLIBC_TUNABLES": "glibc.pthread.rseq=1"})
    # The heap grows until there is room between what is in use.
    assert any(_faults() < 1_000 for _ in range(100))


def test_freed_memory_is_kept_unless_the_user_has_said_how() -> None:
    """In a process of its own: this one's heap may be any. Needs glibc."""
    for name, value in (("MALLOC_TRIM_THRESHOLD_", "65536"), ("GLIBC_TUNABLES", "glibc.malloc.top_pad=1")):
        assert not keep_freed_memory({name: value})
    process = multiprocessing.get_context("spawn").Process(target=_check_freed_memory)
    process.start()
    process.join()
    assert process.exitcode == 0
