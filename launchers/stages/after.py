"""``after:``: how a job of SLURM stands that a sweep waits for."""

from __future__ import annotations

from launchers.slurm import job_queue
from launchers.slurm.states import ENDED, PENDING, RUNNING
from launchers.stages.verdict import READY, Verdict


def job_verdict(job_id: str, cluster: str | None) -> Verdict:
    """Whether a sweep that waits for the job may start.

    Args:
        cluster: where it is, if not on the cluster of this machine.

    Raises:
        ClusterError: SLURM does not answer.
    """
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
