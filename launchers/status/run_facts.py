"""What is known of a run before anybody judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from launchers.slurm.job_queue import SlurmJob, job_key
from launchers.store.attempts import Outcome


@dataclass(frozen=True)
class RunFacts:
    """What a run's files say, whether its process lives, and what SLURM says of its job.

    Attributes:
        has_folder: whether the run's folder is there.
        is_done: whether a whole result.json of this very run is there.
        is_cancelled: whether the user cancelled it.
        is_waiting: whether it waits in the queue of a launcher that lives, on some machine.
        attempt: number of the newest attempt that a cluster has, or had; None before the first.
        started: when that attempt began, seconds since the epoch; `outcome`: how it ended.
        pause_at: the step at which its race has it pause; None: there is no race, or it trains to its end.
        progress: what state.json says: step, max_steps, loss, best_metric, seconds_left.
        damaged: the run's files that cannot be understood, and why.
        unreadable: what keeps its files from being read.
        cluster: ``local`` or ``slurm``.
        process: of a local run: whether its process lives; `last_line`: of its log, if it does not.
        trainer: who holds the lock of its trainer, in words; '' if nobody does. `trainer_is_own`: that
            is the process of the attempt that is told of here.
        slurm: what SLURM says of the job; None with `slurm_was_asked`: it does not know the job.
        last_sign: of an attempt whose end is not recorded: when it last wrote its heartbeat or state.json,
            seconds since the epoch; None: it wrote neither.
        silent_s: seconds since the last heartbeat of a run that SLURM runs; None: it never had one.
        now: when the facts were gathered, seconds since the epoch.
    """

    name: str
    signature: str
    folder: str
    variant: str | None = None
    has_folder: bool = True
    is_done: bool = False
    is_cancelled: bool = False
    is_waiting: bool = False
    attempt: int | None = None
    started: float | None = None
    outcome: Outcome | None = None
    pause_at: int | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    damaged: tuple[tuple[str, str], ...] = ()
    unreadable: str = ""
    cluster: str | None = None
    job_id: str | None = None
    slurm_cluster: str | None = None
    host: str | None = None
    process: Literal["alive", "gone", "elsewhere"] | None = None
    last_line: str = ""
    trainer: str = ""
    trainer_is_own: bool = False
    slurm: SlurmJob | None = None
    slurm_was_asked: bool = False
    last_sign: float | None = None
    silent_s: float | None = None
    now: float = 0.0

    @property
    def job_key(self) -> str | None:
        """What SLURM is asked about; None for a run that it does not have."""
        in_slurm = self.cluster == "slurm" and self.job_id is not None
        return job_key(self.job_id or "", self.slurm_cluster) if in_slurm else None
