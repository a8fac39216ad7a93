"""The one file that imports submitit, and does so late: its import takes longer than our `--help`."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperformer.files import write_json
from hyperformer.signal_handlers import signals_handled
from hyperformer.training.ranks.rendezvous import variables_from_slurm
from launchers.slurm.commands import ClusterError, clean_environment, environment, slurm_words, submitted_job
from launchers.store.attempts import Attempt
from launchers.store.code_snapshot import python_path
from launchers.store.processes import describe, is_alive

_A_YEAR_MIN = 365 * 24 * 60


class LocalJob:
    """A run on this machine: submitit's controller process, and below it the run's own."""

    def __init__(self, job: Any, attempt: Attempt) -> None:
        self._job = job
        self.attempt = attempt
        self.pid = int(job.job_id)

    def done(self) -> bool:
        """Whether it has ended. What trains may outlive the controller, should somebody kill that."""
        return bool(self._job.done()) and not any(map(is_alive, self.attempt.read_processes()))

    def stop(self) -> None:
        """Ask the run to save and end; a controller passes the signal on."""
        for process in filter(is_alive, self.attempt.read_processes()):
            with suppress(ProcessLookupError):  # it may have ended meanwhile
                os.kill(process["pid"], signal.SIGTERM)
            return

    def kill(self) -> None:
        """End the run at once, and whatever it started."""
        for process in filter(is_alive, self.attempt.read_processes()):
            with suppress(ProcessLookupError):
                # What trains made itself the head of a group.
                leads = os.getpgid(process["pid"]) == process["pid"]
                (os.killpg if leads else os.kill)(process["pid"], signal.SIGKILL)


def start_local(
    function: Callable[..., None], run_folder: Path, attempt: Attempt, gpu: str | None, threads: int
) -> LocalJob:
    """Start a run on this machine, now.

    Args:
        function: called with the run's folder, the number of the attempt and the GPU.
        gpu: the GPU that the run sees, as CUDA_VISIBLE_DEVICES names it; None: none.
        threads: CPU threads that the run should use.
    """
    import submitit

    executor = submitit.LocalExecutor(folder=attempt.folder)
    executor.update_parameters(timeout_min=_A_YEAR_MIN)
    variables = {
        "PYTHONPATH": python_path(),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # runs share the cores: a waiting thread must not spin
    }
    # What is started meanwhile ignores these signals for good. A terminal sends Ctrl-C to all that runs in it, and
    # submitit's controller would kill its run a second later, in the middle of saving; so only we hear it.
    ignored = signals_handled((signal.SIGINT, signal.SIGHUP), signal.SIG_IGN)
    with environment({**os.environ, **variables}), ignored:
        job = executor.submit(function, str(run_folder), attempt.number, gpu or "")
    attempt.link_logs(job.paths.stdout, job.paths.stderr)
    local = LocalJob(job, attempt)
    record = {"cluster": "local", "job_id": str(job.job_id), "gpu": gpu, "submitted": time.time()}
    write_json(attempt.job_file, {**record, **describe(local.pid)})
    return local


@dataclass(frozen=True)
class SubmittedJob:
    """What SLURM took; `cluster` only where that is not this machine's own."""

    job_id: str
    cluster: str | None = None


def submit(folder: Path, text: str, options: Sequence[str], secrets: Mapping[str, str]) -> SubmittedJob:
    """Let submitit write a batch script and submit it.

    Its tasks run ``python -m launchers.job RECORD``, and no pickle of submitit's: a later version can read a record.

    Args:
        folder: where submitit writes its files; every node must see it.
        text: of the batch script.
        options: of sbatch, besides those in the text.
        secrets: variables that the jobs take over, besides this process's.

    Raises:
        ClusterError: SLURM took no job.
    """
    from submitit import SlurmExecutor

    class Executor(SlurmExecutor):
        """Submits a text as it is. submitit's functions that it replaces are named in tests/launchers/slurm."""

        submitted: SubmittedJob | None = None

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            return text

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            return ["sbatch", "--parsable", *options, str(submission_file_path)]

        def _get_job_id_from_submission_command(self, string: bytes | str) -> str:  # type: ignore[override]
            answer = string if isinstance(string, str) else string.decode(errors="replace")
            self.submitted = SubmittedJob(*submitted_job(answer))
            return self.submitted.job_id

    folder.mkdir(parents=True, exist_ok=True)
    try:
        # submitit prints the error that it raises as well.
        with environment({**clean_environment(), **secrets}), redirect_stderr(io.StringIO()):
            executor = Executor(folder=folder)
            executor._submit_command("")
    except (RuntimeError, OSError) as error:  # submitit's own errors are RuntimeErrors
        raise ClusterError(f"SLURM did not take the jobs: {slurm_words(str(error))}") from error
    assert executor.submitted is not None
    return executor.submitted


@dataclass(frozen=True)
class RankContext:
    """Where a job runs: this process among its ranks.

    Attributes:
        shares_logs: whether the process writes into the logs of a SLURM job, which all attempts share.
    """

    rank: int
    job_id: str
    shares_logs: bool = False


def join_ranks() -> RankContext:
    """Inside a job: make several ranks known to torch.distributed, by SLURM's variables alone."""
    from submitit import JobEnvironment

    environment = JobEnvironment()
    os.environ |= variables_from_slurm(os.environ)
    return RankContext(
        int(environment.global_rank), str(environment.job_id), shares_logs=environment.cluster == "slurm"
    )
