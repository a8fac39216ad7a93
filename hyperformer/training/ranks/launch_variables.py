"""Which rank this process is, by the variables of whatever started it. Imports no torch.

==============  ==================================================================================
started by      told by
==============  ==================================================================================
torchrun,       RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT; these take precedence, so
deepspeed       ``RANK=0 WORLD_SIZE=1`` makes a run of its own of any process
srun            :mod:`hyperformer.training.ranks.rendezvous`
mpirun          the rows of :data:`MPI`, where srun says nothing
none of these   nothing: a run of one process
==============  ==================================================================================

Nothing is guessed. Variables that contradict each other, or tell half of it, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from hyperformer.errors import ConfigError
from hyperformer.training.ranks.rendezvous import free_port, port_of, sees_one_gpu, variables_from_slurm


@dataclass(frozen=True)
class _Mpi:
    """What one kind of MPI calls rank, number of ranks, and the same on this node; `job`: one start of mpirun."""

    name: str
    rank: str
    size: str
    local_rank: str
    local_size: str
    job: str = ""


MPI = (
    _Mpi(
        "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE", job="PMIX_NAMESPACE",
    ),
    _Mpi(
        "MVAPICH2", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    _Mpi("MPICH or Intel MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)  # fmt: skip
_PLACES = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def rank_variables(environment: Mapping[str, str], local_rank: int | None = None) -> dict[str, str]:
    """torch.distributed's five variables for this process.

    Args:
        local_rank: what the deepspeed launcher wrote on the command line, if it did.

    Raises:
        ConfigError: the variables contradict each other, or some are missing.
    """
    given = {
        key: environment[key] for key in ("RANK", "WORLD_SIZE", *_PLACES) if environment.get(key, "").strip()
    }
    if local_rank is not None and given.setdefault("LOCAL_RANK", str(local_rank)) != str(local_rank):
        _refuse(f"LOCAL_RANK is {given['LOCAL_RANK']}, and --local_rank is {local_rank}")
    launched = _launched(environment)
    if "RANK" not in given:
        _check_agrees(given, launched, environment)
        found = {"RANK": "0", "WORLD_SIZE": "1", **launched, **given}
        found |= {"LOCAL_RANK": launched["LOCAL_RANK"]} if "LOCAL_RANK" in launched else {}
    elif "WORLD_SIZE" not in given:
        _refuse(f"RANK is {given['RANK']}, and WORLD_SIZE is not set")
    else:
        same = launched and given["WORLD_SIZE"] == launched["WORLD_SIZE"]
        # One value for all tasks of a step would make each the same rank; torchrun numbers them as it likes.
        if same and given["RANK"] != launched["RANK"] and "TORCHELASTIC_RUN_ID" not in environment:
            _refuse(
                f"RANK is {given['RANK']}, but this is process {launched['RANK']} of {given['WORLD_SIZE']}"
            )
        found = {**(launched if same else {}), **given}
    return _checked(found, environment)


def _launched(environment: Mapping[str, str]) -> dict[str, str]:
    """What srun and mpirun say; {} for a process that is not one of several."""
    found = variables_from_slurm(environment)
    teller = "srun"
    for kind in MPI:
        more = _of_mpi(environment, kind)
        for key in ("RANK", "WORLD_SIZE") if found and more else ():
            if found[key] != more[key]:
                _refuse(f"{key} is {found[key]} by {teller}, and {more[key]} by {kind.name} ({kind.rank})")
        teller, found = (teller, {**more, **found}) if found else (kind.name, more)
    return found


def _of_mpi(environment: Mapping[str, str], kind: _Mpi) -> dict[str, str]:
    """The variables for one of several processes of an mpirun; {} for any other."""
    rank, size = environment.get(kind.rank), environment.get(kind.size)
    if rank is None or size is None or size == "1":
        return {}
    found = {"RANK": rank, "WORLD_SIZE": size}
    if environment.get(kind.local_rank):
        found["LOCAL_RANK"] = "0" if sees_one_gpu(environment) else environment[kind.local_rank]
    if environment.get(kind.local_size) == size:
        found["MASTER_ADDR"] = "127.0.0.1"
        if environment.get(kind.job):
            found["MASTER_PORT"] = str(port_of(environment[kind.job]))
    return found


def _check_agrees(
    given: Mapping[str, str], launched: Mapping[str, str], environment: Mapping[str, str]
) -> None:
    """Without RANK, what is given must be what the launcher says."""
    size, local = launched.get("WORLD_SIZE", "1"), launched.get("LOCAL_RANK", "0")
    if given.get("WORLD_SIZE", size) != size:
        _refuse(f"WORLD_SIZE is {given['WORLD_SIZE']}, RANK is not set, and this is one of {size} processes")
    if given.get("LOCAL_RANK", local) not in (local, environment.get("SLURM_LOCALID")):
        _refuse(
            f"LOCAL_RANK is {given['LOCAL_RANK']}, RANK is not set, and this is process {local} of its node"
        )


def _checked(found: dict[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    if found["WORLD_SIZE"] == "1":
        found.setdefault("LOCAL_RANK", "0")
        if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            # It meets nobody; a port that others use, too, would be in the way.
            found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    missing = [key for key in _PLACES if key not in found]
    if missing:
        _refuse(
            f"this is rank {found['RANK']} of {found['WORLD_SIZE']}, and {' and '.join(missing)} must be set"
        )
    for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"):
        if not (found[key].isascii() and found[key].isdecimal()):
            _refuse(f"{key} is {found[key]!r}, which is no number")
    if int(found["RANK"]) >= int(found["WORLD_SIZE"]):
        _refuse(f"RANK is {found['RANK']} of {found['WORLD_SIZE']} ranks, which are counted from 0")
    return found


def _refuse(what: str) -> NoReturn:
    raise ConfigError(
        f"cannot find out which rank this process is: {what}. Start the ranks by torchrun, or set RANK, WORLD_SIZE, "
        "LOCAL_RANK, MASTER_ADDR and MASTER_PORT for each; RANK=0 WORLD_SIZE=1 alone makes a run of one process"
    )
