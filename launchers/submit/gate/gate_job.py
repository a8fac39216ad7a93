"""The small job between two stages, or two checks of a race: its batch script, and its submission.

It waits for other jobs by ``--dependency=afterany``, however they end, and then checks the runs itself. The
dependency alone decides nothing: a job that was submitted again from inside has another id, and one that failed is no
reason to start. afterok would leave the gate in the queue for good where one job fails.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.resources import Resources
from launchers.slurm import batch_script
from launchers.slurm.commands import ClusterError, check_output, clean_environment, environment, submitted_job
from launchers.store import code_snapshot, redaction
from launchers.store.code_snapshot import Snapshot

# Enough to read some thousand runs, and to submit them.
_MINUTES, _MEMORY_GB = 30, 2.0
# Between two checks of runs that have not ended though their jobs have; it doubles.
_PAUSE_S, _MOST_S = 15, 600
_PATIENCE_S = 300.0
# In a dependency on any of them: SLURM keeps it as a text.
_MOST_JOBS = 200


@dataclass(frozen=True)
class Gate:
    """A job that is to check a stage, or a race.

    Attributes:
        name: of the job.
        record: gate.json; token: as in it.
        jobs: that it waits for; is_any: for the first of them to end, and not for all.
        waited: how often nothing had changed since it began to wait for them.
    """

    name: str
    record: Path
    token: str
    profile: ClusterProfile
    code: Snapshot
    jobs: tuple[str, ...] = ()
    waited: int = 0
    is_any: bool = False

    @property
    def script(self) -> Path:
        return self.record.with_name("gate.sh")

    @property
    def text(self) -> str:
        """The batch script; the secrets of the profile are not in it."""
        shared = self.profile.resources
        resources = Resources(
            gpus_per_node=0, cpus_per_task=1, mem_gb=_MEMORY_GB, time=_MINUTES, partition=shared.partition,
            account=shared.account, qos=shared.qos, reservation=shared.reservation, setup=shared.setup,
        )  # fmt: skip
        log = str(self.record.with_name("gate.log"))
        options = {
            **batch_script.directives(resources), "job-name": self.name, "output": log, "error": log,
            "open-mode": "append", "chdir": os.getcwd(),
        }  # fmt: skip
        options.pop("signal", None)  # nothing is to be saved
        lines = [
            "#!/bin/bash",
            *batch_script.directive_lines(options),
            batch_script.exports(self._variables()),
            batch_script.setup(resources.setup),
            # A container has no sbatch.
            f"exec {self.profile.host_python} -u -m launchers.stages {shlex.quote(str(self.record))} {self.token}",
        ]  # fmt: skip
        return "\n".join(filter(None, lines)) + "\n"

    def submit(self) -> tuple[str, str | None]:
        """Hand it to SLURM; returns its job id, and its cluster where that is not this machine's own.

        Raises:
            ClusterError: SLURM does not take it.
        """
        self.code.write()
        self.script.parent.mkdir(parents=True, exist_ok=True)
        self.script.write_text(self.text, encoding="utf-8")
        secrets = {
            name: value for name, value in self.profile.environment if redaction.is_secret(name, value)
        }
        with environment({**clean_environment(), **secrets}):
            try:
                return submitted_job(self._sbatch(self.jobs))
            except ClusterError as error:
                if not self.jobs or "ependency" not in str(error):
                    raise
                return submitted_job(self._sbatch(()))  # SLURM has forgotten a job, so that has ended

    def _sbatch(self, jobs: tuple[str, ...]) -> str:
        cluster = self.profile.slurm_cluster
        options = [f"--clusters={cluster}"] if cluster else []
        if jobs and self.is_any:  # those left out end later, or are looked at later
            options.append("--dependency=" + "?".join(f"afterany:{job}" for job in jobs[:_MOST_JOBS]))
        elif jobs:
            options.append(f"--dependency=afterany:{':'.join(jobs)}")
        if self.waited or not jobs:
            options.append(f"--begin=now+{min(_MOST_S, _PAUSE_S * 2**self.waited)}seconds")
        return check_output("sbatch", "--parsable", *options, str(self.script), patience_s=_PATIENCE_S)

    def _variables(self) -> Mapping[str, str]:
        variables = {
            name: value for name, value in self.profile.environment if not redaction.is_secret(name, value)
        }
        return {"PYTHONPATH": code_snapshot.python_path(self.code.folder), "PYTHONSAFEPATH": "1", **variables}
