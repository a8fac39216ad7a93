"""The one file that imports submitit, and does so late: its import takes longer than our `--help`."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.errors import HyperformerError
from hyperformer.files import write_json
from launchers.store.ledger import Attempt
from launchers.store.processes import describe, is_alive
from launchers.store.records import try_record

CODE = Path(__file__).resolve().parents[2]
_A_YEAR_MIN = 365 * 24 * 60


class ClusterError(HyperformerError):
    """The cluster took no job, or does not answer."""


class LocalJob:
    """A run going on this machine: submitit's controller process, and below it the run's own."""

    def __init__(self, job: Any, attempt: Attempt) -> None:
        self._job = job
        self.attempt = attempt
        self.pid = int(job.job_id)

    def done(self) -> bool:
        return bool(self._job.done())

    def stop(self) -> None:
        """Ask the run to save and end; the controller passes the signal on."""
        _signal(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the run at once, and whatever it started."""
        started = try_record(self.attempt.started)
        if started and is_alive(started):
            os.killpg(started["pid"], signal.SIGKILL)  # the job made itself the head of its group
        _signal(self.pid, signal.SIGKILL)


def start_local(run_folder: Path, attempt: Attempt, gpu: str | None, threads: int) -> LocalJob:
    """Start a run on this machine, now.

    Args:
        gpu: the GPU that the run sees, as CUDA_VISIBLE_DEVICES names it; None: none.
        threads: CPU threads that the run should use.
    """
    import submitit

    from launchers.job.attempt import run_in_folder

    executor = submitit.LocalExecutor(folder=attempt.folder)
    executor.update_parameters(timeout_min=_A_YEAR_MIN)
    variables = {
        "PYTHONPATH": python_path(),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # runs share the cores: a waiting thread must not spin
    }
    with environment(variables), _signals_ignored(signal.SIGINT, signal.SIGHUP):
        job = executor.submit(run_in_folder, str(run_folder), attempt.number, gpu or "")
    attempt.link_logs(job.paths.stdout, job.paths.stderr)
    local = LocalJob(job, attempt)
    record = {"cluster": "local", "job_id": str(job.job_id), "gpu": gpu, "submitted": time.time()}
    write_json(attempt.job, {**record, **describe(local.pid)})
    return local


def submit_array(
    folder: Path, record: Path, tasks: int, parameters: dict[str, Any], python: str | None = None
) -> str:
    """Hand one job array to SLURM: its n-th task runs what stands n-th in `record`.

    submitit would pickle a function a task; all tasks have the same one, so it
    is pickled once and linked under each task's name.

    Args:
        folder: where submitit writes its files; every node must see it.
        record: a file of :mod:`launchers.store.submissions`.
        parameters: of :func:`launchers.slurm.batch_script.parameters`.
        python: how to start python on a node.

    Returns:
        The job id of the array.

    Raises:
        ClusterError: SLURM took none of them.
    """
    import submitit

    folder.mkdir(parents=True, exist_ok=True)
    pickled = _pickle_path(folder, record)
    try:
        executor = submitit.SlurmExecutor(folder=folder, python=python)
        executor.update_parameters(**parameters)
        if tasks > 1:
            executor.parameters["map_count"] = tasks
        _pickle(pickled, record, parameters["time"])
        with outside_of_any_job():
            job = executor._submit_command(executor._submitit_command_str)
    except (RuntimeError, OSError) as error:  # submitit's own errors are RuntimeErrors
        pickled.unlink(missing_ok=True)
        raise ClusterError(f"SLURM did not take the jobs: {slurm_words(str(error))}") from error
    name_pickles(folder, record, str(job.job_id), tasks, parameters["time"])
    return str(job.job_id)


def name_pickles(folder: Path, record: Path, job_id: str, tasks: int, minutes: int) -> None:
    """Put the pickle where each task looks for it, under the task's name; does no harm a second time."""
    names = [f"{job_id}_{index}" for index in range(tasks)] if tasks > 1 else [job_id]
    targets = [folder / f"{name}_submitted.pkl" for name in names]
    pickled = _pickle_path(folder, record)
    if not all(target.exists() for target in targets) and not pickled.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _pickle(pickled, record, minutes)
    for target in targets:
        with suppress(FileExistsError):
            try:
                _link(pickled, target)
            except FileNotFoundError:  # all are named already
                break
    if not targets[0].is_symlink():
        pickled.unlink(missing_ok=True)


def _pickle_path(folder: Path, record: Path) -> Path:
    return folder / f".{record.stem}.pkl"


def _pickle(path: Path, record: Path, minutes: int) -> None:
    from submitit.core.utils import DelayedSubmission

    from launchers.job.attempt import run_submitted

    what = DelayedSubmission(run_submitted, str(record))
    what.set_timeout(minutes, 0)
    what.dump(path)


def link_pickle(folder: Path, old: str, new: str) -> None:
    """Let a job that goes on under another id find what it is to run."""
    target = folder / f"{new}_submitted.pkl"
    if not target.exists():
        _link((folder / f"{old}_submitted.pkl").resolve(), target)


def _link(pickled: Path, target: Path) -> None:
    try:
        os.link(pickled, target)
    except PermissionError:  # a file system without hard links
        target.symlink_to(pickled.name)


def sbatch_text(folder: Path, tasks: int, parameters: dict[str, Any], python: str | None = None) -> str:
    """The file that :func:`submit_array` gives to sbatch."""
    from submitit.slurm.slurm import _make_sbatch_string

    command = (
        f"{python or shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    )
    return str(
        _make_sbatch_string(
            command=command, folder=folder, map_count=tasks if tasks > 1 else None, **parameters
        )
    )


@dataclass(frozen=True)
class Place:
    """Where a job runs: this process among its ranks, and where its logs go."""

    rank: int
    job_id: str
    logs: tuple[Path, Path] | None


def join_ranks() -> Place:
    """Inside a job: make several ranks known to torch.distributed, by SLURM's variables alone."""
    from submitit import JobEnvironment

    environment = JobEnvironment()
    rank, size = int(environment.global_rank), int(environment.num_tasks)
    if size > 1:
        local = int(environment.local_rank)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        if visible != [""] and len(visible) == 1:
            local = 0  # the site gives each task its own GPU (--gpus-per-task): it is the first it sees
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": str(size),
            "LOCAL_WORLD_SIZE": str(max(1, size // int(environment.num_nodes))),
            "MASTER_ADDR": environment.hostnames[0],
            "MASTER_PORT": str(rendezvous_port(os.environ)),
        }
    paths = environment.paths if environment.cluster == "slurm" else None
    return Place(rank, str(environment.job_id), (paths.stdout, paths.stderr) if paths else None)


def rendezvous_port(environment: Mapping[str, str]) -> int:
    """A port of the job's own, the same on every rank, another one when SLURM starts the job again.

    Below 32768, where the kernel does not give ports to whoever asks for any.
    """
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    text = ".".join(environment.get(name, "0") for name in names)
    return 12_000 + int(hashlib.sha256(text.encode()).hexdigest(), 16) % 20_000


def python_path(code: Path = CODE) -> str:
    """PYTHONPATH with which a job finds this copy of the code, from whatever folder it starts."""
    before = os.environ.get("PYTHONPATH", "")
    others = [entry for entry in before.split(os.pathsep) if entry and Path(entry).resolve() != CODE]
    if code == CODE and str(CODE) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return before  # installed: python finds it by itself
    return os.pathsep.join([str(code), *others])


# What a job's environment tells of that job; a job submitted from inside it must not take it over.
_OF_A_JOB = re.compile(
    r"(SLURM|SLURMD|SLURM_STEP|SRUN|SUBMITIT|PMI|PMIX)_.*"
    r"|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT|CUDA_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL"
)
_OF_THE_SITE = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "SLURM_JWT")


@contextmanager
def outside_of_any_job() -> Iterator[None]:
    """As if this process ran in no job."""
    inside = "SLURM_JOB_ID" in os.environ
    taken = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if inside and _OF_A_JOB.fullmatch(name) and name not in _OF_THE_SITE
    }
    try:
        yield
    finally:
        os.environ.update(taken)


def slurm_words(text: str) -> str:
    """SLURM's own words of submitit's error, if they are there."""
    said = [line for line in text.splitlines() if line.startswith(("sbatch: error:", "sbatch: fatal:"))]
    return "; ".join(line.split(": ", 2)[2] for line in said) or text


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """What is started meanwhile has these variables."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


@contextmanager
def _signals_ignored(*numbers: signal.Signals) -> Iterator[None]:
    """What is started meanwhile ignores the signals for good.

    A terminal sends Ctrl-C to all that runs in it. submitit's controller would
    kill its run a second later, in the middle of saving; so only we hear it.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it may have ended meanwhile
        os.kill(pid, number)
