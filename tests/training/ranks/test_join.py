"""Joining the other ranks and leaving them; a rank without a GPU of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from hyperformer.errors import ConfigError, Interrupted
from hyperformer.settings.schema import TrainingConfig
from hyperformer.training.ranks import join as joining
from hyperformer.training.ranks.distributed import DistributedContext
from hyperformer.training.ranks.join import join, joined
from hyperformer.training.ranks.rendezvous import free_port

FORK = multiprocessing.get_context("fork")
SETTINGS = TrainingConfig(start_timeout_minutes=60, step_timeout_minutes=2)


def on_ranks(function: Callable[[], None], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a function in a process for each rank; each must end well."""
    import deepspeed  # noqa: F401 (once, before the forks)

    names = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = []
    for rank in range(count):
        for name, value in {**names, "RANK": str(rank), "LOCAL_RANK": str(rank)}.items():
            monkeypatch.setenv(name, value)
        processes.append(FORK.Process(target=function))
        processes[-1].start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count


def test_every_group_gets_the_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a function that torch does not call public; DeepSpeed makes groups of its own, with torch's default."""

    def one_rank() -> None:
        context = join(config=SETTINGS)
        assert context.bookkeeping is not None
        engines, mine = dist.new_group(), context.bookkeeping.group

        def timeouts() -> list[timedelta]:
            groups = (dist.group.WORLD, engines, mine)
            return [each._get_backend(torch.device("cpu")).options._timeout for each in groups]

        context.groups_made()
        assert timeouts() == [timedelta(hours=1)] * 3
        context.step_done()
        assert timeouts() == [timedelta(minutes=minutes) for minutes in (2, 2, 8)]
        found = context.gather_on_main(context.rank)
        assert found == ([0, 1] if context.is_main else [])
        assert context.gather(context.rank) == [0, 1] and context.broadcast_from_main(context.rank) == 0
        assert context.maximum(torch.tensor([context.rank, 5])).tolist() == [1, 5]

    on_ranks(one_rank, 2, monkeypatch)


def test_a_process_leaves_the_group_that_it_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_rank() -> None:
        for _ in range(2):
            with joined(None, SETTINGS):
                assert dist.is_initialized()
            assert not dist.is_initialized()
        with pytest.raises(Interrupted), joined(None, SETTINGS):
            raise Interrupted("stopped", 15)
        assert not dist.is_initialized()
        join()  # of a notebook, say: it is not ours to leave
        with joined(None, SETTINGS):
            pass
        assert dist.is_initialized()

    on_ranks(one_rank, 1, monkeypatch)


def test_a_rank_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake for the number of GPUs, which this machine does not have."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    joining._check_has_gpu(1)
    with pytest.raises(
        ConfigError, match=r"local rank 2 has no GPU: .* 2 to it \(CUDA_VISIBLE_DEVICES=4,5\)"
    ):
        joining._check_has_gpu(2)


def test_two_ranks_on_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes for the GPU and the other ranks."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="a"))
    context: Any = SimpleNamespace(device=torch.device("cpu"), gather=lambda mine: ["b", mine, mine])
    with pytest.raises(ConfigError, match="rank 1 and rank 2 have the same GPU"):
        joining._check_one_gpu_each(context)
    context.gather = lambda mine: [mine, "b"]
    joining._check_one_gpu_each(context)


def test_one_rank_waits_for_nobody() -> None:
    alone = DistributedContext(0, 0, 1, torch.device("cpu"))
    alone.groups_made()
    alone.step_done()
    assert alone.gather_on_main(3) == [3]
