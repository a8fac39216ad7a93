"""A sweep file with stages, or one that waits (`after:`): its stages in order, as sweeps, and the decision on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launchers.api import StartOptions, StartPlan, Sweep
from launchers.plan.sweep_file import SWEEPS, read_stages
from launchers.plan.sweep_keys.stages import split_target
from launchers.stages.verdict import READY, Verdict, judge
from launchers.submit.gate import record
from launchers.submit.gate.record import GateRecord


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

    def dry_runs(self, options: StartOptions) -> Iterator[tuple[Sweep, StartPlan]]:
        """What a submit of each stage would start, as far as that is known before the stages ahead of it are done.

        Raises:
            PreflightError: of the first stage that has findings.
        """
        for stage in self.names:
            sweep = self.open(stage)
            yield sweep, sweep.dry_run(options=options)

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
