"""Starting every stage of a study whose turn has come; on SLURM a gate follows that starts the next one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hyperformer.errors import HyperformerError
from launchers.api import StartOptions, Sweep
from launchers.plan.sweep_keys.stages import REPORT
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.stages.after import after_verdict
from launchers.stages.study import Study
from launchers.stages.verdict import READY, Verdict, judge
from launchers.store import code_snapshot
from launchers.submit.gate import record
from launchers.submit.gate.gate_job import Gate
from launchers.submit.gate.record import GateRecord
from launchers.submit.start import StartCallbacks
from launchers.submit.start_rule import StartRule

# What a gate starts: runs that nobody has started yet. One that failed waits for the user.
NEW = StartRule(frozenset({"missing"}))
CallbacksOf = Callable[[Sweep], StartCallbacks]


@dataclass(frozen=True)
class Advance:
    """How far a study came: the stage that did not start, and why; None: all are done."""

    stage: str | None
    verdict: Verdict = READY
    gate: GateRecord | None = None


def advance(
    study: Study, rule: StartRule, options: StartOptions, callbacks_of: CallbacksOf, waited: int = 0
) -> Advance:
    """Start every stage whose turn has come.

    Args:
        rule: which runs of a stage start.
        waited: checks in a row without a change, for the record of the next gate; 0 if something has changed now.

    Raises:
        as :meth:`launchers.api.Sweep.start`.
    """
    started: list[str] = []
    try:
        for number, stage in enumerate([*study.names, REPORT]):
            verdict = _verdict_before(study, number)
            if verdict == READY and stage != REPORT:
                sweep = study.open(stage)
                if sweep.plan.waits:
                    verdict = Verdict("blocked", _why_not_chosen(study, number))
            if verdict != READY:
                return _hold(study, number, verdict, options, waited)
            if stage != REPORT:
                sweep.start(rule, options, callbacks_of(sweep))
            started.append(stage)
    finally:
        # Last: a gate that is killed before acts again when SLURM has started it again.
        for stage in started:
            _write(study, stage, "started")
    return Advance(None)


def advance_from_gate(gate: GateRecord, callbacks_of: CallbacksOf) -> Advance:
    """What a gate does when its turn has come.

    Raises:
        HyperformerError: nothing can start, and why.
    """
    study = Study(gate.target, Path(gate.runs_dir), gate.cluster)
    check_unchanged(gate, study.stages.text)
    options = StartOptions(gate.max_parallel, frozenset(gate.ignored))
    return advance(study, NEW, options, callbacks_of, waited=gate.waited + 1)


def check_unchanged(gate: GateRecord, text: str) -> None:
    """See that the sweep file is what it was when the gate was submitted.

    Args:
        text: of the file now, and of those that it extends.

    Raises:
        HyperformerError: it is not.
    """
    if record.file_hash(text) != gate.file:
        raise HyperformerError(f"{gate.target} was changed since it was submitted: `submit` it again")


def cancel_gates(study: Study) -> list[str]:
    """Cancel the jobs between the stages; returns the stages that will not start by themselves.

    Raises:
        ClusterError: SLURM does not answer, or refuses.
    """
    waiting = {
        stage: gate
        for stage in (*study.names, REPORT)
        if (gate := study.gate(stage)) and gate.state == "waits"
    }
    keys = {
        gate.job_id: job_queue.job_key(gate.job_id, gate.slurm_cluster)
        for gate in waiting.values()
        if gate.job_id
    }
    # Without the token of the record a gate that SLURM does not cancel any more does nothing.
    for stage in waiting:
        _write(study, stage, "cancelled", why="cancelled by the user")
    refused = job_queue.cancel(keys.values()) if keys else {}
    if refused:
        raise HyperformerError("; ".join(refused.values()))
    return list(waiting)


def _verdict_before(study: Study, number: int) -> Verdict:
    """Whether the stage of that number may start, by what comes before it."""
    if number == 0:
        return after_verdict(study)
    sweep = study.open(study.names[number - 1])
    return judge(sweep.plan.name, sweep.statuses(), may_diverge=sweep.plan.select is not None)


def _why_not_chosen(study: Study, number: int) -> str:
    """Why it is not known which runs a stage starts from, though all before it have ended."""
    choices = study.open(study.names[number - 1]).choices()
    open_ones = [one.label for one in choices if not one.is_final]
    of_what = f" for {', '.join(open_ones)}" if open_ones else ""
    return f"no run of the stages before it can be chosen{of_what}: `report` says what is missing"


def _hold(study: Study, number: int, verdict: Verdict, options: StartOptions, waited: int) -> Advance:
    """A stage that cannot start now: on SLURM, submit a gate that checks again when jobs have ended."""
    stage = [*study.names, REPORT][number]
    sweep = study.open(study.names[max(0, number - 1)])
    if verdict.kind == "blocked" or sweep.plan.profile.is_local:
        state: record.State = "blocked" if verdict.kind == "blocked" else "waits"
        return Advance(stage, verdict, _write(study, stage, state, why=verdict.why))
    before = study.gate(stage)
    same = before is not None and before.state == "waits" and before.jobs == verdict.jobs
    gate = _write(
        study, stage, "waits", why=verdict.why, jobs=verdict.jobs, waited=waited if same else 0,
        max_parallel=options.max_parallel, ignored=tuple(sorted(options.ignored)),
        cluster=sweep.plan.profile.cluster_argument,
    )  # fmt: skip
    return Advance(stage, verdict, _submit(study, stage, sweep, gate))


def _submit(study: Study, stage: str, sweep: Sweep, gate: GateRecord) -> GateRecord:
    """Submit the gate to SLURM; its record is written before it can start."""
    name = f"hyperformer-{study.stages.name}-{stage or 'start'}-gate"
    code = code_snapshot.read(code_snapshot.CODE, sweep.ledger.paths.code)
    path = study.gate_file(stage)
    job = Gate(name, path, gate.token, sweep.plan.profile, code, gate.jobs, gate.waited)
    try:
        job_id, cluster = job.submit()
    except ClusterError as error:
        what = "writes the report" if stage == REPORT else f"starts stage {stage or study.stages.name}"
        raise ClusterError(
            f"SLURM did not take the job that {what} ({error}); what was submitted before stays. `submit` again "
            "when it does, or when the runs have ended"
        ) from error
    return record.write(
        path, replace(gate, job_id=job_id, slurm_cluster=cluster or sweep.plan.profile.slurm_cluster)
    )


def _write(study: Study, stage: str, state: record.State, **values: object) -> GateRecord:
    known = GateRecord(
        state,
        stage,
        target=str(study.path),
        runs_dir=str(study.runs_dir),
        token=secrets.token_hex(8),
        file=record.file_hash(study.stages.text),
    )
    return record.write(study.gate_file(stage), replace(known, **values))  # type: ignore[arg-type]
