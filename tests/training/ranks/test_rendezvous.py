"""How ranks find each other under plain srun, and how they learn what rank 0 knows."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import torch

from hyperformer.errors import ConfigError, DataError, DiskFull, Interrupted
from hyperformer.training.ranks import rendezvous
from hyperformer.training.ranks.distributed import DistributedContext, _portable
from hyperformer.training.ranks.rendezvous import first_host, rendezvous_port, variables_from_slurm

STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}


def test_the_tasks_of_a_step_are_the_ranks() -> None:
    made = variables_from_slurm(STEP)
    assert made["MASTER_ADDR"] == "gpu03" and made["MASTER_PORT"] == str(rendezvous_port(STEP))
    assert [made[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")] == ["3", "1", "4"]
    assert variables_from_slurm({**STEP, "CUDA_VISIBLE_DEVICES": "2"})["LOCAL_RANK"] == "0"
    assert variables_from_slurm({**STEP, "CUDA_VISIBLE_DEVICES": "0,1"})["LOCAL_RANK"] == "1"


def test_a_process_that_srun_did_not_start_is_alone() -> None:
    """A batch script of a job of four tasks is one process, and so is a step of one task in it."""
    batch = {name: value for name, value in STEP.items() if "STEP" not in name}
    assert variables_from_slurm({}) == variables_from_slurm(batch) == {}
    assert variables_from_slurm({**STEP, "SLURM_STEP_NUM_TASKS": "1"}) == {}


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST"])
@pytest.mark.parametrize("value", [None, "", "[", "x["])
def test_what_cannot_be_understood_is_refused(name: str, value: str | None) -> None:
    environment = {**STEP, name: value}
    with pytest.raises(ConfigError, match="srun started 4 tasks.*torchrun"):
        variables_from_slurm({key: text for key, text in environment.items() if text is not None})


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("a", "a"),
        ("a,b", "a"),
        ("n[1-4,9],m2", "n1"),
        ("rack[007,9]-n[12-13]", "rack007-n12"),
        ("n-1.x.org,b", "n-1.x.org"),
        ("n[1-2]-ib", "n1-ib"),
    ],
)
def test_first_host(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def test_the_port_is_the_steps_own() -> None:
    def port(**names: str) -> int:
        return rendezvous_port({f"SLURM_{key}": value for key, value in names.items()})

    ports = {port(JOB_ID=str(job), STEP_ID="0") for job in range(200)}
    assert len(ports) > 190 and min(ports) >= 12_000 and max(ports) < 32_000
    assert port(JOB_ID="7") != port(JOB_ID="7", RESTART_COUNT="1")
    assert port(JOB_ID="7", STEP_ID="0") != port(JOB_ID="7", STEP_ID="1")


class Ranks(DistributedContext):
    """Rank 0 of two, and what the other rank has: a fake, for what needs no second process."""

    other: Any

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other]

    def broadcast_from_main(self, value: Any) -> Any:
        return value


def test_ranks_that_read_other_things_are_told() -> None:
    ranks = Ranks(0, 0, 2, torch.device("cpu"))
    for other, told in (({"settings": 1, "task files": 3}, "task files"), ({"settings": 1}, "task files")):
        object.__setattr__(ranks, "other", other)
        with pytest.raises(ConfigError, match=f"rank 1 and rank 0 of this run differ in {told}\\. "):
            ranks.check_same({"settings": 1, "task files": 2})
    object.__setattr__(ranks, "other", {"settings": 1})
    ranks.check_same({"settings": 1})


def test_an_error_on_rank_0_is_every_ranks() -> None:
    context = DistributedContext(0, 0, 1, torch.device("cpu"))
    assert context.on_main(lambda: 3) == 3

    def fail() -> None:
        raise DataError("no rows")

    for call in (context.on_main, context.on_each):
        with pytest.raises(DataError, match="no rows"):
            call(fail)
    assert context.on_each(lambda: 3) == 3


def test_an_error_of_another_rank() -> None:
    ranks = Ranks(0, 0, 2, torch.device("cpu"))
    object.__setattr__(ranks, "other", DataError("no rows there"))
    with pytest.raises(DataError, match="no rows there"):
        ranks.on_each(lambda: 3)


def test_an_error_that_cannot_travel_keeps_its_words() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    assert str(_portable(Odd(1, 2))) == "Odd: 1 and 2"
    assert isinstance(_portable(Interrupted("stopped", 15)), RuntimeError)
    assert type(_portable(DiskFull("full"))) is DiskFull


def test_a_free_port_is_one_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken, socket.socket() as free:
        for each in (taken, free):
            each.bind(("127.0.0.1", 0))
        ports = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        monkeypatch.setattr(rendezvous, "_PORTS", ports)
        assert {rendezvous.free_port() for _ in range(20)} == {ports[1]}
