"""The plan of a job array: it renders its batch script, and submits that very text."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.plan import Run
from launchers.plan.resources import Resources
from launchers.slurm import batch_script, submitit_executor
from launchers.slurm.commands import call, slurm_words
from launchers.store import code_snapshot
from launchers.store.code_snapshot import Snapshot
from launchers.store.sweep_folder import SweepFolder

# What the batch script sets besides `environment:`; a container hands over only what is named.
_OF_THE_SCRIPT = (
    "PYTHONPATH", "PYTHONSAFEPATH", "HYPERFORMER_DEADLINE", "HYPERFORMER_LOG_FROM", "HYPERFORMER_JOB_STATE",
)  # fmt: skip
# True while nodes are down or busy, too, and then a job may wait: sbatch itself decides.
_PASSING = ("node configuration is not available", "nodes are busy", "Resources temporarily unavailable")


@dataclass(frozen=True)
class ArrayPlan:
    """A job array before it is submitted. Its `text` is what a dry run shows and what sbatch gets.

    Attributes:
        number: of the submission that it becomes; :attr:`job_name` belongs to that.
        tasks: the runs of each task; several where they are packed.
        code: what the jobs run.
        environment: variables of the jobs, written into the text.
        secrets: variables of the jobs that are not written: SLURM takes them over from sbatch's environment.
        throttle: tasks at once at most; None: as many as the cluster has room for.
        after_previous: whether it waits for the end of the array before it.
        renew_report: whether a job that has ended renews the page of the report.
    """

    number: int
    job_name: str
    folder: SweepFolder
    profile: ClusterProfile
    resources: Resources
    tasks: tuple[tuple[Run, ...], ...]
    code: Snapshot
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    throttle: int | None = None
    after_previous: bool = False
    renew_report: bool = True

    @property
    def runs(self) -> list[Run]:
        return [run for task in self.tasks for run in task]

    @cached_property
    def text(self) -> str:
        """The batch script."""
        job_id = "%A_%a" if len(self.tasks) > 1 else "%j"
        directives = batch_script.directives(self.resources)
        directives |= {"job-name": self.job_name, **self._array_directive()}
        directives["output"], directives["error"] = map(str, self.folder.job_logs(job_id))
        output, errors = map(str, self.folder.job_logs(job_id, "%t"))
        blocks = {
            "seconds": str(self.resources.time * 60),
            "environment": batch_script.exports(self._variables()),
            "setup": batch_script.setup(self.resources.setup),
            "output": shlex.quote(output),
            "error": shlex.quote(errors),
            "srun_options": shlex.join([*batch_script.srun_options(self.resources), *self._in_container()]),
            "python": self._python(),
            "epilogue_python": self._epilogue_python(),
            "record": shlex.quote(str(self.folder.submission(self.number))),
            "renew_report": str(self.renew_report).lower(),
            "host_python": self.profile.host_python,
            "folder": shlex.quote(str(self.folder.path)),
        }
        return batch_script.render(directives, blocks)

    def submit(self, previous: str | None = None) -> submitit_executor.SubmittedJob:
        """Hand it to SLURM.

        Args:
            previous: the job id of the array before it.

        Raises:
            ClusterError: SLURM took none of its jobs.
        """
        options = self.options(previous)
        return submitit_executor.submit(self.folder.submitit, self.text, options, self.secrets)

    def options(self, previous: str | None = "JOB_OF_THE_ARRAY_BEFORE") -> list[str]:
        """The options of sbatch beside the text.

        The id of the job before is not known when the text is made, and a job that submits the text again is on
        its cluster already.
        """
        after = [f"--dependency=afterany:{previous}"] if self.after_previous else []
        cluster = self.profile.slurm_cluster
        return [*after, f"--clusters={cluster}"] if cluster else after

    def try_out(self) -> tuple[str | None, str | None]:
        """Ask SLURM about it without submitting it: (when it would start, what SLURM has against it).

        Raises:
            ClusterError: SLURM does not answer.
        """
        done = call("sbatch", "--test-only", stdin=self.text, cluster=self.profile.slurm_cluster)
        if any(words in done.stderr for words in _PASSING):
            return None, None
        if self.resources.reservation and "Invalid time specified" in done.stderr:
            return None, None  # it begins later, which only --test-only refuses
        if done.returncode:
            return None, slurm_words(done.stderr)
        match = re.search(r"to start at (\S+)", done.stderr)
        return (_soon(match[1]) if match else None), None

    def _array_directive(self) -> dict[str, str]:
        count = len(self.tasks)
        return {"array": f"0-{count - 1}%{min(count, self.throttle or count)}"} if count > 1 else {}

    def _variables(self) -> dict[str, str]:
        # What else is on our PYTHONPATH belongs to this machine's python, not to the container's.
        path = (
            str(self.code.folder) if self.profile.container else code_snapshot.python_path(self.code.folder)
        )
        # Without the safe path `python -m` would take code in the folder that the sweep was submitted from.
        return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", **self._threads(), **self.environment}

    def _threads(self) -> dict[str, str]:
        cpus = self.resources.cpus_per_task
        return {"OMP_NUM_THREADS": str(cpus)} if cpus else {}

    def _in_container(self) -> list[str]:
        """The options of srun for the container."""
        if self.profile.container is None:
            return []
        return self.profile.container.srun(
            self.folder.path, [*_OF_THE_SCRIPT, *self._threads(), *self.environment]
        )

    def _python(self) -> str:
        """The shell command that starts python on a node."""
        container, python = self.profile.container, self.profile.python
        if container is None:
            return python or shlex.quote(sys.executable)
        return container.python(python, self.folder.path, self.resources.gpus_per_node)

    def _epilogue_python(self) -> str:
        """The same for the batch script itself: where srun starts the container, through srun."""
        options = self._in_container()
        if not options:
            return self._python()
        one_task = ["srun", "--overlap", "--export=ALL", "--nodes=1", "--ntasks=1"]
        return f"{shlex.join([*one_task, *options])} {self._python()}"


def _soon(text: str) -> str:
    try:
        seconds = time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S")) - time.time()
    except ValueError:
        return f"at {text}"
    return "now" if seconds < 60 else f"at {text.replace('T', ' ')}"
