"""``after:``: how the jobs and sweeps stand that a sweep waits for."""

from __future__ import annotations

from pathlib import Path

from launchers.api import Sweep
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.sweep_file import SWEEPS, read_stages
from launchers.plan.sweep_files.stages import After, split_target
from launchers.slurm import job_queue
from launchers.slurm.states import ENDED, PENDING, RUNNING
from launchers.stages.verdict import READY, Verdict, judge


def look(after: After, runs_dir: Path, profile: ClusterProfile) -> Verdict:
    """Whether one of the things that a sweep waits for is done.

    Raises:
        ConfigError: the sweep that it names cannot be read.
        ClusterError: SLURM does not answer.
    """
    return _job(after.job, profile.slurm_cluster) if after.job else _sweep(after.sweep, runs_dir, profile)


def check(after: After, is_local: bool) -> None:
    """See that what a sweep waits for can be asked about, before anything is started.

    Raises:
        ConfigError: it is a job of SLURM, and the runs are on this machine; or there is no such sweep.
    """
    if after.job and is_local:
        after.place.fail(f"job {after.job} is SLURM's, and these runs go to this machine (--cluster)")
    if after.sweep:
        _stages(after.sweep)


def _stages(target: str) -> list[str]:
    """The sweeps that a file, or FILE:STAGE, means."""
    file, stage = split_target(target)
    names = read_stages(SWEEPS.find(file)).names
    return [target] if stage or names == ("",) else [f"{file}:{name}" for name in names]


def _sweep(target: str, runs_dir: Path, profile: ClusterProfile) -> Verdict:
    for one in _stages(target):
        sweep = Sweep.load(one, runs_dir, profile.cluster_argument)
        verdict = judge(sweep.plan.name, sweep.statuses())
        if verdict != READY:
            return verdict
    return READY


def _job(job_id: str, cluster: str | None) -> Verdict:
    found = job_queue.states_of(job_id, cluster)
    if found & (PENDING | RUNNING):
        return Verdict("waits", f"job {job_id} has not ended", (job_id,))
    if not found:
        return Verdict("blocked", f"SLURM does not know job {job_id}, so how it ended is not known")
    if found == {"COMPLETED"}:
        return READY
    told = ", ".join(sorted(found - {"COMPLETED"}))
    how = "ended" if found <= ENDED else "is"
    return Verdict("blocked", f"job {job_id} {how} {told}")
