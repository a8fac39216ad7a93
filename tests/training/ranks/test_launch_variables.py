"""Which rank a process is: one table for every launcher; what contradicts itself is refused."""

from __future__ import annotations

from typing import Any

import pytest
from training.ranks.test_rendezvous import STEP

from hyperformer.errors import ConfigError
from hyperformer.training.ranks.launch_variables import rank_variables
from hyperformer.training.ranks.rendezvous import rendezvous_port

TORCH = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_NAMESPACE": "prterun-host-7@1",
}
HYDRA = {"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
PLACE = {"MASTER_ADDR": "a", "MASTER_PORT": "29500"}
AGENT = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RUN_ID": "x"}


@pytest.mark.parametrize(
    ("environment", "local", "expected"),
    [
        (TORCH, None, TORCH),
        (TORCH, 1, TORCH),
        ({**TORCH, **STEP}, None, TORCH),
        # torchrun once a node, as srun starts it: its own numbers hold.
        ({**TORCH, **STEP, "SLURM_PROCID": "0", **AGENT}, None, TORCH),
        ({**TORCH, **STEP, "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}, None, TORCH),
        (STEP, None, {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu03"}),
        ({**STEP, **PLACE}, None, {**TORCH, **PLACE}),
        ({**STEP, "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, None, {"RANK": "3", "MASTER_ADDR": "gpu03"}),
        ({**STEP, "PMI_RANK": "3", "PMI_SIZE": "4"}, None, {"RANK": "3", "MASTER_ADDR": "gpu03"}),
        (OPEN_MPI, None, {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3", "MASTER_ADDR": "127.0.0.1"}),
        ({**HYDRA, **PLACE}, None, TORCH),
        ({**HYDRA, **PLACE, "CUDA_VISIBLE_DEVICES": "7"}, None, {**TORCH, "LOCAL_RANK": "0"}),
        ({**TORCH, "RANK": "0", "WORLD_SIZE": "1", **AGENT}, None, {"RANK": "0", "MASTER_PORT": "29500"}),
    ],
)  # fmt: skip
def test_the_rank(environment: dict[str, str], local: int | None, expected: dict[str, str]) -> None:
    found = rank_variables(environment, local)
    assert found.keys() == TORCH.keys() and expected.items() <= found.items()
    if environment is STEP:
        assert found["MASTER_PORT"] == str(rendezvous_port(STEP))


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {**STEP, "RANK": "0", "WORLD_SIZE": "1"},
        {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"},
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", **PLACE},
    ],
)
def test_a_run_of_one_process_meets_nobody(environment: dict[str, str]) -> None:
    """A port that others use, too, would be in the way."""
    found, again = rank_variables(environment), rank_variables(environment)
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    assert alone.items() <= found.items()
    assert found["MASTER_PORT"] != again["MASTER_PORT"] != "29500"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RANK": "0"}, "RANK is 0, and WORLD_SIZE is not set"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4, RANK is not set, and this is one of 1"),
        ({"LOCAL_RANK": "2"}, "LOCAL_RANK is 2, RANK is not set"),
        ({**STEP, "WORLD_SIZE": "8"}, "WORLD_SIZE is 8, RANK is not set, and this is one of 4"),
        ({**STEP, "LOCAL_RANK": "0"}, "LOCAL_RANK is 0, RANK is not set, and this is process 1"),
        ({**TORCH, "RANK": "4"}, "RANK is 4 of 4 ranks, which are counted from 0"),
        ({**TORCH, "RANK": "-1"}, "RANK is '-1', which is no number"),
        ({**TORCH, "MASTER_PORT": "x"}, "MASTER_PORT is 'x'"),
        ({key: TORCH[key] for key in ("RANK", "WORLD_SIZE")}, "LOCAL_RANK and MASTER_ADDR and MASTER_PORT must"),
        # Set once in a batch script, for all tasks of the step.
        ({**TORCH, **STEP, "RANK": "0"}, "RANK is 0, but this is process 3 of 4"),
        ({**STEP, **OPEN_MPI, "OMPI_COMM_WORLD_RANK": "2"}, "RANK is 3 by srun, and 2 by Open MPI"),
        ({**STEP, **HYDRA, "PMI_SIZE": "8"}, "WORLD_SIZE is 4 by srun, and 8 by MPICH"),
        (HYDRA, "this is rank 3 of 4, and MASTER_ADDR and MASTER_PORT must be set"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_refused(environment: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rank_variables(environment)
    assert told in str(refused.value) and "RANK=0 WORLD_SIZE=1" in str(refused.value)


def test_the_deepspeed_launchers_argument_is_believed_if_nothing_says_otherwise() -> None:
    environment: dict[str, Any] = {key: value for key, value in TORCH.items() if key != "LOCAL_RANK"}
    assert rank_variables(environment, 2)["LOCAL_RANK"] == "2"
    with pytest.raises(ConfigError, match="LOCAL_RANK is 1, and --local_rank is 2"):
        rank_variables(TORCH, 2)
