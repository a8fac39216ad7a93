"""The one file that imports submitit, and does so late: its import takes longer than our `--help`."""

from __future__ import annotations

import os
import shlex
import signal
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hyperformer.errors import HyperformerError
from hyperformer.files import write_json
from launchers.ledger import Attempt
from launchers.processes import describe, is_alive
from launchers.resources import Resources

_CODE = Path(__file__).resolve().parent.parent
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
        from launchers.ledger import read_record

        started = read_record(self.attempt.started)
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

    from launchers.job import run_in_folder

    executor = submitit.LocalExecutor(folder=attempt.folder)
    executor.update_parameters(timeout_min=_A_YEAR_MIN)
    environment = {
        "PYTHONPATH": _python_path(),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # runs share the cores: a waiting thread must not spin
    }
    with _environment(environment), _signals_ignored(signal.SIGINT, signal.SIGHUP):
        job = executor.submit(run_in_folder, str(run_folder), attempt.number, gpu or "")
    attempt.link_logs(job.paths.stdout, job.paths.stderr)
    local = LocalJob(job, attempt)
    record = {"cluster": "local", "job_id": str(job.job_id), "gpu": gpu, "submitted": time.time()}
    write_json(attempt.job, {**record, **describe(local.pid)})
    return local


def submit_array(
    folder: Path,
    name: str,
    starts: Sequence[tuple[Path, Attempt]],
    resources: Resources,
    parallel: int | None,
) -> list[str]:
    """Hand runs of one resource shape to SLURM as one job array, and note their job ids.

    Args:
        folder: where submitit writes its files; every node must see it.
        starts: (run folder, attempt) of each run.
        parallel: runs at once at most; None: as many as the cluster has room for.

    Raises:
        ClusterError: SLURM took none of them.
    """
    import submitit

    from launchers.job import run_in_folder

    try:
        executor = submitit.SlurmExecutor(folder=folder)
        executor.update_parameters(
            array_parallelism=parallel or len(starts), **slurm_parameters(name, resources)
        )
        jobs = executor.map_array(
            run_in_folder, *zip(*((str(path), attempt.number) for path, attempt in starts), strict=True)
        )
    except (RuntimeError, OSError) as error:  # submitit's own errors are RuntimeErrors
        raise ClusterError(f"SLURM did not take the jobs: {error}") from error
    for job, (_, attempt) in zip(jobs, starts, strict=True):
        attempt.link_logs(job.paths.stdout, job.paths.stderr)
        write_json(attempt.job, {"cluster": "slurm", "job_id": job.job_id, "submitted": time.time()})
    return [job.job_id for job in jobs]


def slurm_parameters(name: str, resources: Resources) -> dict[str, Any]:
    """What submitit's SLURM executor is told."""
    setup = [f"export PYTHONPATH={shlex.quote(_python_path())}"]
    # A rank that dies takes the others with it, instead of leaving them to wait for it.
    srun = ["--kill-on-bad-exit=1"]
    if resources.cpus_per_task:
        setup.append(f"export OMP_NUM_THREADS={resources.cpus_per_task}")
        # Since SLURM 22.05 a step does not take this over from the job.
        srun.append(f"--cpus-per-task={resources.cpus_per_task}")
    values = {
        "job_name": f"hyperformer-{name}",
        "time": resources.time,
        "nodes": 1,
        "ntasks_per_node": resources.ranks,
        "gpus_per_node": resources.gpus_per_node or None,
        "cpus_per_task": resources.cpus_per_task,
        "mem": None if resources.mem_gb is None else f"{int(resources.mem_gb * 1024)}MB",
        "partition": resources.partition,
        "setup": setup,
        "srun_args": srun,
    }
    return {key: value for key, value in values.items() if value is not None}


def join_ranks() -> tuple[int, str]:
    """Inside a job: make several ranks known to torch.distributed; returns (this rank, job id)."""
    from submitit import JobEnvironment
    from submitit.helpers import TorchDistributedEnvironment

    ranks = TorchDistributedEnvironment()
    if ranks.world_size > 1:
        # SLURM's own CUDA_VISIBLE_DEVICES stays: the local rank is an index into it.
        ranks.export(set_cuda_visible_devices=False, overwrite=True)
    return int(ranks.rank), str(JobEnvironment().job_id)


def _python_path() -> str:
    """PYTHONPATH with which a job finds this very copy of the code, from whatever folder it starts."""
    before = os.environ.get("PYTHONPATH", "")
    if str(_CODE) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return before  # installed: python finds it by itself
    return os.pathsep.join([str(_CODE), *([before] if before else [])])


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
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
