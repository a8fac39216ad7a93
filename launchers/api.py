"""Sweeps from Python, for notebooks: what the command line does, without the printing.

>>> from launchers.api import Sweep                          # doctest: +SKIP
>>> sweep = Sweep.load("sweeps/demo.yaml", cluster="slurm")  # doctest: +SKIP
>>> sweep.submit()                                           # doctest: +SKIP
>>> sweep.status()                                           # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hyperformer.errors import HyperformerError
from launchers.plan.cluster_profile import ClusterProfile, load_profile
from launchers.plan.load_plan import load_plan
from launchers.plan.runs import Plan, Run
from launchers.plan.selection import select
from launchers.slurm import commands
from launchers.status.read_status import read_statuses
from launchers.status.run_status import BAD, GOING, RunStatus
from launchers.store.ledger import Ledger
from launchers.submit.cancel import stop
from launchers.submit.choose import to_retry
from launchers.submit.estimate import Bill
from launchers.submit.to_slurm import NotConfirmed, Outcome, dry_run, submit_to_slurm


class Sweep:
    """One sweep file, its folder of runs, and the cluster that its runs go to."""

    def __init__(self, plan: Plan, ledger: Ledger, profile: ClusterProfile) -> None:
        self.plan = plan
        self.ledger = ledger
        self.profile = profile

    @classmethod
    def load(cls, sweep: str | Path, runs_dir: str | Path = "runs", cluster: str = "slurm") -> Sweep:
        """Read a sweep file, or a shipped one by name.

        Raises:
            ConfigError: with file, line and key.
        """
        plan = load_plan(str(sweep), load_profile(cluster))
        return cls(plan, Ledger(plan, Path(runs_dir)), plan.profile)

    def submit(self, max_parallel: int | None = None, yes: bool = False) -> list[str]:
        """Hand what is missing, failed or stopped to SLURM; returns the ids of the job arrays.

        Args:
            yes: submit above the profile's `confirm_above` too.

        Raises:
            PreflightError, ClusterError, LockError: nothing was submitted, or not all.
            NotConfirmed: the bill is above `confirm_above`.
        """
        return self._submit(max_parallel, yes, None)

    def retry(self, *names: str, oom: bool = False, yes: bool = False) -> list[str]:
        """Submit again the failed runs among `names` (globs, key=value; none: all)."""
        chosen = {run.signature for run in select(self.plan, names or ["*"])}

        def choose(statuses: Sequence[RunStatus]) -> list[Run]:
            return to_retry(self.ledger, statuses, chosen, BAD, oom)[0]

        return self._submit(None, yes, choose)

    def dry_run(self) -> Outcome:
        """What `submit` would do: `todo`, `bill`, and the text of each sbatch file in `texts`."""
        return dry_run(self.ledger, self.profile)

    def statuses(self) -> list[RunStatus]:
        """How each run stands."""
        return read_statuses(self.ledger, self.plan.runs)[0]

    def status(self) -> Any:
        """A data frame with a row a run; where pandas is not installed, a list of dicts."""
        rows = [{**entry.as_json(), "word": entry.display_state} for entry in self.statuses()]
        try:
            import pandas
        except ImportError:
            return rows
        return pandas.DataFrame(rows).set_index("name")

    def cancel(self, *names: str) -> list[str]:
        """Cancel the runs that go or wait among `names` (none: all); returns their names."""
        runs = select(self.plan, names or ["*"])
        found = zip(runs, read_statuses(self.ledger, runs)[0], strict=True)
        touched = [(run, entry) for run, entry in found if entry.state in GOING or entry.holds_a_job]
        stop(self.ledger, touched)
        return [run.name for run, _ in touched]

    def _submit(
        self, parallel: int | None, yes: bool, choose: Callable[[Sequence[RunStatus]], list[Run]] | None
    ) -> list[str]:
        if self.profile.is_local or not commands.is_available():
            raise HyperformerError(
                "runs on this machine are the command line's: sweep.py submit --cluster local"
            )
        limit = self.profile.confirm_above

        def confirm(bill: Bill) -> bool:
            if not yes and limit is not None and bill.gpu_hours > limit:
                raise NotConfirmed(f"{bill}: above confirm_above ({limit:g}); say yes=True to submit them")
            return True

        outcome = submit_to_slurm(self.ledger, self.profile, parallel, choose, confirm)
        return [job_id for job_id, _ in outcome.arrays]
