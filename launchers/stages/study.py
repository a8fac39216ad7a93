"""A sweep file with stages, or one that waits (`after:`): each stage starts when those before it are done."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hyperformer.errors import HyperformerError, nearest
from launchers.api import StartOptions, StartPlan, Sweep
from launchers.plan.sweep_file import SWEEPS, read_stages, read_sweep
from launchers.plan.sweep_keys.stages import REPORT, After, split_target
from launchers.slurm import job_queue
from launchers.slurm.commands import ClusterError
from launchers.stages.after import job_verdict
from launchers.stages.verdict import READY, Verdict, judge
from launchers.store import code_snapshot
from launchers.submit.gate import record
from launchers.submit.gate.gate_job import Gate
from launchers.submit.gate.record import GateRecord
from launchers.submit.start import StartCallbacks
from launchers.submit.start_rule import StartRule

# What a gate starts: runs that nobody has started yet. One that failed waits for the user.
NEW = StartRule(frozenset({"missing"}))
ListenerOf = Callable[[Sweep], StartCallbacks]


@dataclass(frozen=True)
class Advance:
    """How far a study came: the stage that did not start, and what stands before it; None: all are done."""

    stage: str | None
    verdict: Verdict = READY
    gate: GateRecord | None = None


class Study:
    """The stages of a sweep file, in order.

    Args:
        target: the sweep file, or the name of a shipped one.

    Raises:
        ConfigError: with file, line and key.
    """

    def __init__(self, target: str, runs_dir: Path, cluster: str | None = None) -> None:
        self.path = SWEEPS.find(split_target(target)[0]).absolute()
        self.target, self.runs_dir, self.cluster = target, runs_dir.absolute(), cluster
        self.stages = read_stages(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        return self.stages.names

    @property
    def file_hash(self) -> str:
        """Of the text of the sweep file, and of those that it extends."""
        return record.file_hash(self.stages.text)

    def target_of(self, stage: str) -> str:
        """What commands call it: FILE:STAGE."""
        return f"{self.target}:{stage}" if stage else self.target

    def open(self, stage: str) -> Sweep:
        """The sweep that a stage is; read anew, as its runs depend on results of the stages before."""
        return Sweep.load(f"{self.path}:{stage}" if stage else self.path, self.runs_dir, self.cluster)

    def gate_file(self, stage: str) -> Path:
        """Where the last decision on a stage is."""
        name = f"{self.stages.name}.{stage}" if stage else self.stages.name
        return record.gate_file(self.runs_dir / name)

    def gate(self, stage: str) -> GateRecord | None:
        """The last decision on a stage, or on the report; None: its turn has not come."""
        return record.read(self.gate_file(stage))

    # Looking ahead

    def check(self) -> None:
        """See that what the first stage waits for can be asked about.

        Raises:
            ConfigError: it is a job of SLURM, and the runs are on this machine, or SLURM does not know it; or there
                is no such sweep, or stage.
        """
        profile = self.open(self.names[0]).plan.profile
        for one in self.stages.after:
            if one.job and profile.is_local:
                one.location.fail(f"job {one.job} is SLURM's, and these runs go to this machine (--cluster)")
            if one.job and not self._is_known(one.job, profile.slurm_cluster):
                one.location.fail(
                    f"SLURM does not know job {one.job}, so how it ended cannot be told; if it is done, leave it out"
                )
            if one.sweep:
                self._check_awaited(one)

    def _check_awaited(self, one: After) -> None:
        try:
            study, stage = self._awaited(one.sweep), split_target(one.sweep)[1]
        except HyperformerError as error:
            one.location.fail(str(error))
        if study.path.samefile(self.path):
            one.location.fail("is this very file: it would wait for itself")
        if self._is_race(one.sweep):
            one.location.fail("is a race, whose end cannot be waited for; start this sweep when it is over")
        names = [name for name in study.names if name]
        if stage and stage not in names:
            told = nearest(stage, names) if names else "; it has none"
            one.location.fail(
                f"{study.path.name} has no stage {stage!r}{told} (`after` waits for no single run)"
            )

    def _is_known(self, job_id: str, cluster: str | None) -> bool:
        """Whether SLURM knows a job; also while it does not answer, which a submit says by itself."""
        try:
            return bool(job_queue.states_of(job_id, cluster))
        except ClusterError:
            return True

    def first_verdict(self) -> Verdict:
        """Whether the first stage may start now.

        Raises:
            ClusterError: it waits for a job of SLURM, which does not answer.
        """
        return self._before(0)

    def dry_runs(self, rule: StartRule, options: StartOptions) -> Iterator[tuple[Sweep, StartPlan]]:
        """What each stage would start, as far as that is known before those ahead of it are done.

        Raises:
            PreflightError: of the first stage that has findings.
        """
        for stage in self.names:
            sweep = self.open(stage)
            yield sweep, sweep.dry_run(rule, options)

    # Starting

    def advance(
        self, rule: StartRule, options: StartOptions, listener_of: ListenerOf, waited: int = 0
    ) -> Advance:
        """Start every stage whose turn has come. On SLURM a gate follows that starts the next one.

        Args:
            rule: which runs of a stage start.
            waited: looks in a row, before this one, at which nothing had changed.

        Raises:
            as :meth:`launchers.api.Sweep.start`.
        """
        started: list[str] = []
        try:
            for number, stage in enumerate([*self.names, REPORT]):
                verdict = self._before(number)
                if verdict == READY and stage != REPORT:
                    sweep = self.open(stage)
                    if sweep.plan.waits:
                        verdict = Verdict("blocked", self._why_not_chosen(number))
                if verdict != READY:
                    return self._hold(number, verdict, options, waited)
                if stage != REPORT:
                    sweep.start(rule, options, listener_of(sweep))
                started.append(stage)
        finally:
            # Last: a gate that is killed before acts again when SLURM has started it again.
            for stage in started:
                self._write(stage, "started")
        return Advance(None)

    def _before(self, number: int) -> Verdict:
        """Whether the stage of that number may start, by what comes before it."""
        if number == 0:
            cluster = self.open(self.names[0]).plan.profile.slurm_cluster
            found = (
                job_verdict(one.job, cluster)
                if one.job
                else self._awaited(one.sweep).outcome(only=split_target(one.sweep)[1])
                for one in self.stages.after
            )
            return next((one for one in found if one != READY), READY)
        sweep = self.open(self.names[number - 1])
        return judge(sweep.plan.name, sweep.statuses(), may_diverge=sweep.plan.select is not None)

    def _is_race(self, target: str) -> bool:
        awaited = self._awaited(target)
        return awaited.names == ("",) and read_sweep(awaited.path).race is not None

    def _awaited(self, target: str) -> Study:
        return Study(split_target(target)[0], self.runs_dir, self.cluster)

    def outcome(self, only: str = "") -> Verdict:
        """Whether all stages are done, or only the one named; one whose turn has yet to come is waited for."""
        for stage in [only] if only else self.names:
            sweep = self.open(stage)
            verdict, gate = judge(sweep.plan.name, sweep.statuses()), self.gate(stage)
            if verdict.kind == "blocked" and gate is not None and gate.state == "waits":
                return Verdict(
                    "waits", f"{sweep.plan.name} has not begun", tuple(filter(None, [gate.job_id]))
                )
            if verdict != READY:
                return verdict
        return READY

    def _why_not_chosen(self, number: int) -> str:
        """Why it is not known which runs a stage starts from, though all before it have ended."""
        sweep = self.open(self.names[number - 1])
        choices = sweep.choices()
        open_ones = [one.label for one in choices if not one.is_final]
        told = f" for {', '.join(open_ones)}" if open_ones else ""
        return f"no run of the stages before it can be chosen{told}: `report` says what is missing"

    def _hold(self, number: int, verdict: Verdict, options: StartOptions, waited: int) -> Advance:
        """A stage that cannot start now: on SLURM, have a gate look again when jobs have ended."""
        stage = [*self.names, REPORT][number]
        sweep = self.open(self.names[max(0, number - 1)])
        if verdict.kind == "blocked" or sweep.plan.profile.is_local:
            state: record.State = "blocked" if verdict.kind == "blocked" else "waits"
            return Advance(stage, verdict, self._write(stage, state, why=verdict.why))
        before = self.gate(stage)
        same = before is not None and before.state == "waits" and before.jobs == verdict.jobs
        gate = self._write(
            stage, "waits", why=verdict.why, jobs=verdict.jobs, waited=waited if same else 0,
            max_parallel=options.max_parallel, ignored=tuple(sorted(options.ignored)),
            cluster=sweep.plan.profile.cluster_argument,
        )  # fmt: skip
        return Advance(stage, verdict, self._submit(stage, sweep, gate))

    def _submit(self, stage: str, sweep: Sweep, gate: GateRecord) -> GateRecord:
        """Hand the gate to SLURM; the record is there before it can start."""
        name = f"hyperformer-{self.stages.name}-{stage or 'start'}-gate"
        code = code_snapshot.read(code_snapshot.CODE, sweep.ledger.paths.code)
        path = self.gate_file(stage)
        job = Gate(name, path, gate.token, sweep.plan.profile, code, gate.jobs, gate.waited)
        try:
            job_id, cluster = job.submit()
        except ClusterError as error:
            what = "writes the report" if stage == REPORT else f"starts stage {stage or self.stages.name}"
            raise ClusterError(
                f"SLURM did not take the job that {what} ({error}); what was submitted before stays. `submit` again "
                "when it does, or when the runs have ended"
            ) from error
        return record.write(
            path, replace(gate, job_id=job_id, slurm_cluster=cluster or sweep.plan.profile.slurm_cluster)
        )

    def _write(self, stage: str, state: record.State, **values: object) -> GateRecord:
        known = GateRecord(
            state,
            stage,
            target=str(self.path),
            runs_dir=str(self.runs_dir),
            token=secrets.token_hex(8),
            file=self.file_hash,
        )
        return record.write(self.gate_file(stage), replace(known, **values))  # type: ignore[arg-type]

    # Stopping

    def cancel_gates(self) -> list[str]:
        """Cancel the jobs between the stages; returns the stages that will not start by themselves.

        Raises:
            ClusterError: SLURM does not answer, or refuses.
        """
        waiting = {
            stage: gate
            for stage in (*self.names, REPORT)
            if (gate := self.gate(stage)) and gate.state == "waits"
        }
        keys = {
            gate.job_id: job_queue.job_key(gate.job_id, gate.slurm_cluster)
            for gate in waiting.values()
            if gate.job_id
        }
        # Without the token of the record a gate that SLURM does not cancel any more does nothing.
        for stage in waiting:
            self._write(stage, "cancelled", why="cancelled by the user")
        refused = job_queue.cancel(keys.values()) if keys else {}
        if refused:
            raise HyperformerError("; ".join(refused.values()))
        return list(waiting)


def next_look(gate: GateRecord, listener_of: ListenerOf) -> Advance:
    """What a gate does when its turn has come.

    Raises:
        HyperformerError: nothing can start, and why.
    """
    study = Study(gate.target, Path(gate.runs_dir), gate.cluster)
    check_unchanged(gate, study.stages.text)
    options = StartOptions(gate.max_parallel, frozenset(gate.ignored))
    return study.advance(NEW, options, listener_of, waited=gate.waited + 1)


def check_unchanged(gate: GateRecord, text: str) -> None:
    """See that the sweep file is what it was when the gate was submitted.

    Args:
        text: of the file now, and of those that it extends.

    Raises:
        HyperformerError: it is not.
    """
    if record.file_hash(text) != gate.file:
        raise HyperformerError(f"{gate.target} was changed since it was submitted: `submit` it again")
