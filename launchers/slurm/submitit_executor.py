"""The one file that imports submitit, and does so late: its import takes longer than our `--help`."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from hyperformer.training.ranks.rendezvous import variables_from_slurm
from launchers.slurm.commands import ClusterError, clean_environment, environment, slurm_words, submitted_job


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
        cluster: "slurm", or "local" for this machine.
    """

    rank: int
    job_id: str
    shares_logs: bool = False
    cluster: str = "slurm"


def join_ranks() -> RankContext:
    """Inside a job: make several ranks known to torch.distributed, by SLURM's variables alone."""
    from submitit import JobEnvironment

    environment = JobEnvironment()
    os.environ |= variables_from_slurm(os.environ)
    return RankContext(int(environment.global_rank), str(environment.job_id), shares_logs=True)
