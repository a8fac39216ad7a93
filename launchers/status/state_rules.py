"""From the facts on a run to its state: one pure function, a list of rules of which the first that applies decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from launchers.plan.failure_kinds import KINDS
from launchers.slurm import states
from launchers.status.run_facts import RunFacts
from launchers.status.run_status import RunStatus, State
from launchers.store.attempts import Outcome

# A heartbeat is due every 15 seconds; a file server may show it late.
SILENT_S = 300.0
# Fields of RunStatus that are facts as they are.
_COPIED = (
    "name", "signature", "folder", "attempt", "cluster", "job_id", "slurm_cluster", "variant", "damaged", "unreadable",
)  # fmt: skip


def status_of(facts: RunFacts) -> RunStatus:
    """The one function from the facts on a run to its state."""
    state, detail = _with_damage(facts, next(filter(None, (rule(facts) for rule in _RULES))))
    job, outcome = facts.slurm, None if state == "done" else facts.outcome
    in_slurm = job if facts.cluster == "slurm" and state != "done" else None
    copied: dict[str, Any] = {name: getattr(facts, name) for name in _COPIED}
    copied |= {name: facts.progress.get(name) for name in ("step", "max_steps", "loss", "best_metric")}
    return RunStatus(
        **copied,
        state=state,
        detail=detail,
        host=facts.host or (in_slurm.node if in_slurm and state != "pending" else None),
        seconds_left=facts.progress.get("seconds_left") if state in ("running", "unknown") else None,
        elapsed=None if state == "pending" else _elapsed(facts, state),
        slurm_state=in_slurm.state if in_slurm else None,
        reason=in_slurm.reason if in_slurm else None,
        expected_start=(in_slurm.start or None) if in_slurm and state == "pending" else None,
        has_ended=outcome is not None,
        kind=outcome.kind if outcome else None,
        note=outcome.why if outcome else "",
        settled=outcome is not None and outcome.then is not None,
        goes_on=outcome is not None and outcome.then in ("again", "requeue"),
    )


_Verdict = tuple[State, str]


def _queued_by_slurm(facts: RunFacts) -> _Verdict | None:
    """Also with an end on file: SLURM has put the job back into the queue."""
    job = facts.slurm
    if job is None or job.state not in states.PENDING:
        return None
    return "pending", "" if job.reason == "None" else job.reason


def _run_by_slurm(facts: RunFacts) -> _Verdict | None:
    job, outcome = facts.slurm, facts.outcome
    if job is None or job.state not in states.RUNNING:
        return None
    if outcome is None:
        silent = facts.silent_s
        # A heartbeat of an earlier attempt says nothing of one that has only begun.
        if silent is not None and min(silent, _since_start(facts)) > SILENT_S and job.state == "RUNNING":
            why = f"no sign of life for {silent / 60:.0f} minutes, though SLURM says RUNNING"
            return "lost", f"{why}: `cancel` it, then submit"
        return "running", "" if job.state == "RUNNING" else job.state
    if facts.is_cancelled:
        return None
    if outcome.then in ("again", "requeue"):
        return "running", f"starting again: {outcome.why}"
    if outcome.then is None:  # the job has yet to decide, and may start it again
        return "running", f"its end is being examined: {_ended(facts)[1]}"
    return None


def _trained_here(facts: RunFacts) -> _Verdict | None:
    if facts.outcome is not None or facts.cluster != "local":
        return None
    if facts.process == "alive":
        return "running", ""
    return ("running", f"says {facts.host}; ask there") if facts.process == "elsewhere" else None


def _trained_by_somebody(facts: RunFacts) -> _Verdict | None:
    """Whatever else is known of its attempts, the lock of its trainer is held."""
    # SLURM ends the processes of a job; on a node that it lost sight of they may live.
    ended = facts.slurm is not None and facts.slurm.state in states.ENDED and facts.slurm.state != "NODE_FAIL"
    if not facts.trainer or (facts.trainer_is_own and ended):
        return None
    return "running", f"trained by {facts.trainer}"


def _ended(facts: RunFacts) -> _Verdict:
    outcome = facts.outcome
    assert outcome is not None
    if outcome.status == "failed" and outcome.error_type == "out_of_memory":
        # Nobody but the launcher was left to tell it, in the words of SLURM's daemons.
        return "failed", f"out_of_memory: {KINDS['out_of_memory'].words}"
    if outcome.status == "failed":
        return "failed", f"{outcome.error_type or 'error'}: {outcome.message}"
    if outcome.status == "paused":
        return _paused(facts, outcome)
    if outcome.status == "stopped":
        return "stopped", outcome.message
    return "lost", "it says that it is done, but result.json is not there"


def _paused(facts: RunFacts, outcome: Outcome) -> _Verdict:
    """A race paused it; it may have decided since that the run moves on."""
    step = outcome.step or facts.progress.get("step") or 0
    if facts.pause_at is not None and facts.pause_at <= step:
        return "paused", f"by its race at step {step}"
    goal = f"step {facts.pause_at}" if facts.pause_at else "its end"
    return "stopped", f"paused at step {step}, and now to train to {goal}"


def _process_is_gone(facts: RunFacts) -> _Verdict | None:
    if facts.cluster != "local":
        return None
    last = f"; last line of its log: {facts.last_line}" if facts.last_line else ""
    return "lost", f"its process is gone{last}"


def _reported_by_slurm(facts: RunFacts) -> _Verdict:
    """An end that the run itself had no time to write down."""
    job = facts.slurm
    if facts.cluster != "slurm" or facts.job_id is None:
        return "unknown", ""
    if not facts.slurm_was_asked:
        return "unknown", "SLURM does not answer"
    gone = "" if facts.has_folder else "; its folder is not there any more"
    if job is None:
        return "lost", f"SLURM does not know job {facts.job_id}{gone}"
    if job.state == "UNKNOWN":
        return "unknown", f"the queue does not have job {facts.job_id}, but {job.reason}"
    if job.state == "CANCELLED":
        return "cancelled", "scancel"
    if job.state == "COMPLETED":
        return "lost", f"SLURM says COMPLETED, but result.json is not there{gone}"
    if job.state in states.ENDED:
        return "failed", f"SLURM says {job.state}"
    return "unknown", f"SLURM says {job.state}, which is no end that we know"


# The first that applies.
_RULES: tuple[Callable[[RunFacts], _Verdict | None], ...] = (
    lambda facts: ("done", "") if facts.is_done else None,
    _queued_by_slurm,
    _run_by_slurm,
    _trained_here,
    _trained_by_somebody,
    lambda facts: ("cancelled", "") if facts.is_cancelled else None,
    lambda facts: ("waiting", "") if facts.is_waiting else None,
    lambda facts: ("missing", "") if facts.attempt is None else None,
    lambda facts: _ended(facts) if facts.outcome else None,
    _process_is_gone,
    _reported_by_slurm,
)


def _with_damage(facts: RunFacts, verdict: _Verdict) -> _Verdict:
    """What the files that cannot be read mean for it.

    What can be told without them is told: a damaged state.json only hides the
    progress. Where a newer version wrote, or the disk fails, nobody can tell.
    """
    state, _ = verdict
    if state in ("done", "running", "pending", "waiting"):
        return verdict
    if facts.unreadable:
        return "unknown", facts.unreadable
    matters = [f"{name} is damaged ({why})" for name, why in facts.damaged if name != "state.json"]
    if not matters or state in ("unknown", "cancelled"):
        return verdict
    return "damaged", f"{'; '.join(matters)}; submit renames it and resumes from the last checkpoint"


def _elapsed(facts: RunFacts, state: State) -> float | None:
    """Until its end; where that is not recorded, until its last sign of life."""
    if facts.started is None:
        return facts.slurm.elapsed if facts.slurm and not facts.is_done else None
    if facts.outcome and facts.outcome.ended:
        return max(0.0, facts.outcome.ended - facts.started)
    if state == "running":
        return _since_start(facts)
    if facts.last_sign is not None:
        return max(0.0, facts.last_sign - facts.started)
    return facts.slurm.elapsed if facts.slurm else None


def _since_start(facts: RunFacts) -> float:
    return 0.0 if facts.started is None else max(0.0, facts.now - facts.started)
