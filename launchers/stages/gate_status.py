"""Why a stage has not started yet, in words."""

from __future__ import annotations

from launchers.plan.sweep_keys.stages import REPORT
from launchers.slurm import job_queue, states
from launchers.slurm.commands import ClusterError
from launchers.stages.study import Study
from launchers.submit.gate.record import GateRecord

_STARTS_IT = "starts it)"


def gate_texts(study: Study) -> dict[str, str]:
    """:func:`gate_text` of each stage, and of the report."""
    return {stage: gate_text(study, stage) for stage in (*study.names, REPORT)}


def starts_by_itself(text: str) -> bool:
    """Whether a job in SLURM's queue is to start a stage, by its :func:`gate_text`."""
    return text.endswith(_STARTS_IT)


def gate_text(study: Study, stage: str) -> str:
    """Why a stage, or the report, has not started yet; '': it has, or its turn has not come."""
    gate = study.gate(stage)
    if gate is None:
        return _never_looked_at(study, stage)
    if gate.state == "started":
        return ""
    if gate.state in ("blocked", "cancelled"):
        return f"does not start: {gate.why}"
    if gate.job_id is None:
        return f"waits: {gate.why}; no job looks after it: `submit` again when they have ended"
    return _of_job(study, stage, gate)


def _of_job(study: Study, stage: str, gate: GateRecord) -> str:
    key = job_queue.job_key(gate.job_id or "", gate.slurm_cluster)
    try:
        job = job_queue.query([key]).get(key)
    except ClusterError as error:
        return f"waits: {gate.why} (job {gate.job_id}; {error})"
    if job is not None and job.state not in states.ENDED:
        return f"waits: {gate.why} (job {gate.job_id} {_STARTS_IT}"
    if study.gate(stage) != gate:  # it has acted meanwhile
        return gate_text(study, stage)
    log = study.gate_file(stage).with_name("gate.log")
    return f"does not start: job {gate.job_id}, which was to start it, is gone ({log}): `submit` again"


def _never_looked_at(study: Study, stage: str) -> str:
    """A submit that was killed between a stage and the gate of the next one leaves no record of that."""
    names = [*study.names, REPORT]
    before = study.gate(names[names.index(stage) - 1]) if stage != names[0] else None
    if before is not None and before.state == "started":
        return "does not start: the submit did not get so far: `submit` again"
    return ""
