"""``after:``: the jobs of SLURM, and the other sweeps, that the first stage of a study waits for."""

from __future__ import annotations

from hyperformer.errors import HyperformerError, nearest
from launchers.plan.sweep_file import read_sweep
from launchers.plan.sweep_keys.stages import After, split_target
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.slurm.states import ENDED, PENDING, RUNNING
from launchers.stages.study import Study
from launchers.stages.verdict import READY, Verdict


def check_after(study: Study) -> None:
    """See that what the first stage waits for can be asked about.

    Raises:
        ConfigError: it is a job of SLURM, and the runs are on this machine, or SLURM does not know it; or there
            is no such sweep, or stage.
    """
    profile = study.open(study.names[0]).plan.profile
    for one in study.stages.after:
        if one.job and profile.is_local:
            one.location.fail(f"job {one.job} is SLURM's, and these runs go to this machine (--cluster)")
        if one.job and not _is_known(one.job, profile.slurm_cluster):
            one.location.fail(
                f"SLURM does not know job {one.job}, so how it ended cannot be told; if it is done, leave it out"
            )
        if one.sweep:
            _check_sweep(study, one)


def after_verdict(study: Study) -> Verdict:
    """Whether the first stage may start now.

    Raises:
        ClusterError: it waits for a job of SLURM, which does not answer.
    """
    cluster = study.open(study.names[0]).plan.profile.slurm_cluster
    found = (
        _job_verdict(one.job, cluster)
        if one.job
        else _awaited(study, one.sweep).outcome(only=split_target(one.sweep)[1])
        for one in study.stages.after
    )
    return next((one for one in found if one != READY), READY)


def _check_sweep(study: Study, one: After) -> None:
    try:
        awaited, stage = _awaited(study, one.sweep), split_target(one.sweep)[1]
    except HyperformerError as error:
        one.location.fail(str(error))
    if awaited.path.samefile(study.path):
        one.location.fail("is this very file: it would wait for itself")
    if awaited.names == ("",) and read_sweep(awaited.path).race is not None:
        one.location.fail("is a race, whose end cannot be waited for; start this sweep when it is over")
    names = [name for name in awaited.names if name]
    if stage and stage not in names:
        hint = nearest(stage, names) if names else "; it has none"
        one.location.fail(
            f"{awaited.path.name} has no stage {stage!r}{hint} (`after` waits for no single run)"
        )


def _is_known(job_id: str, cluster: str | None) -> bool:
    """Whether SLURM knows a job; also while it does not answer, which a submit says by itself."""
    try:
        return bool(job_queue.states_of(job_id, cluster))
    except ClusterError:
        return True


def _awaited(study: Study, target: str) -> Study:
    return Study(split_target(target)[0], study.runs_dir, study.cluster)


def _job_verdict(job_id: str, cluster: str | None) -> Verdict:
    """Whether a sweep that waits for the job may start.

    Args:
        cluster: where it is, if not on the cluster of this machine.
    """
    found = job_queue.states_of(job_id, cluster)
    if found & (PENDING | RUNNING):
        return Verdict("waits", f"job {job_id} has not ended", (job_id,))
    if not found:
        return Verdict("blocked", f"SLURM does not know job {job_id}, so how it ended is not known")
    if found == {"COMPLETED"}:
        return READY
    states = ", ".join(sorted(found - {"COMPLETED"}))
    how = "ended" if found <= ENDED else "is"
    return Verdict("blocked", f"job {job_id} {how} {states}")
