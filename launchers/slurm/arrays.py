"""Starting and stopping runs: what to start, and how it gets to the cluster. Prints nothing."""

from __future__ import annotations

import dataclasses
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperformer.errors import HyperformerError
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.resources import Resources
from launchers.plan.runs import Plan, Run
from launchers.slurm import batch_script, job_queue, submitit_executor
from launchers.slurm.submitit_executor import ClusterError
from launchers.status import reconcile
from launchers.status.run_status import LEFT_ALONE, RunStatus
from launchers.store import circuit_breaker, redaction, submissions
from launchers.store.code_snapshot import Snapshot
from launchers.store.ledger import Ledger, last_attempt
from launchers.store.processes import is_alive
from launchers.store.records import try_record
from launchers.store.submissions import Entry, Submission, entry_settings, groups, task_lines


def to_start(plan: Plan, statuses: Sequence[RunStatus]) -> list[Run]:
    """The runs that are neither done nor going; `statuses` are those of the plan's runs, in order."""
    return [
        run
        for run, entry in zip(plan.runs, statuses, strict=True)
        if entry.state not in LEFT_ALONE and not entry.holds_a_job
    ]


def make_ready(ledger: Ledger, statuses: Sequence[RunStatus], todo: Sequence[Run]) -> list[str]:
    """See that nothing of an earlier attempt stands in the way of the runs; returns notes for the user."""
    damaged = {status.signature: status.damaged for status in statuses}
    ledger.forget_cancelled(todo)
    reason = circuit_breaker.reason(ledger.path)
    circuit_breaker.release(ledger.path, [ledger.folder(run) for run in todo])
    notes = [f"the sweep was held ({reason}); now it goes on"] if reason else []
    return notes + ledger.put_aside((run, name) for run in todo for name, _ in damaged[run.signature])


@dataclass
class Array:
    """A job array to be submitted: its runs by task, and what sbatch is told of it."""

    resources: Resources
    tasks: list[list[Run]]
    parallel: int | None = None
    after_previous: bool = False

    @property
    def runs(self) -> list[Run]:
        return [run for task in self.tasks for run in task]


@dataclass
class Handing:
    """How a sweep's runs go to SLURM; made by :func:`arrange`.

    Attributes:
        environment: variables of the jobs, written into the sbatch file.
        secrets: variables of the jobs that are not written: SLURM takes them over from sbatch's environment.
        left_out: runs for which the site's submit limit has no room now.
        code: what the jobs run.
    """

    profile: ClusterProfile
    arrays: list[Array]
    environment: dict[str, str]
    left_out: list[Run]
    secrets: dict[str, str]
    code: Snapshot

    def parameters(self, ledger: Ledger, array: Array, number: int, after: str | None) -> dict[str, Any]:
        """What submitit is told of the array that becomes submission `number`."""
        container = self.profile.container
        # What else is on our PYTHONPATH belongs to this machine's python, not to the container's.
        code = self.code.folder
        path = str(code) if container else submitit_executor.python_path(code)
        python = self.python(ledger, array) or shlex.quote(sys.executable)
        in_container: list[str] = []
        if container:
            threads = ["OMP_NUM_THREADS"] if array.resources.cpus_per_task else []
            names = [
                "PYTHONPATH",
                "PYTHONSAFEPATH",
                "HYPERFORMER_DEADLINE",
                "HYPERFORMER_LOG_FROM",
                *threads,
                *self.environment,
            ]
            in_container = container.srun(ledger.path, names)
        if in_container:  # python starts there under srun alone
            python = shlex.join(["srun", "--overlap", "--nodes=1", "--ntasks=1", *in_container, python])
        values = batch_script.parameters(
            ledger.job_name(number), array.resources, path, submissions.path_of(ledger.path, number),
            python, self.environment, array.parallel, after,
        )  # fmt: skip
        values["srun_args"] += in_container
        return values

    def python(self, ledger: Ledger, array: Array) -> str | None:
        """How a job of the array starts python; None: by the path of this machine's."""
        container, python = self.profile.container, self.profile.python
        if container is None:
            return python
        return container.python(python, ledger.path, array.resources.gpus_per_node)

    def text(self, ledger: Ledger, array: Array, number: int, after: str | None = None) -> str:
        """The sbatch file of the array that becomes submission `number`."""
        parameters = self.parameters(ledger, array, number, after)
        return submitit_executor.sbatch_text(
            ledger.submitit, len(array.tasks), parameters, self.python(ledger, array)
        )


def arrange(
    todo: Sequence[Run],
    profile: ClusterProfile,
    code: Snapshot,
    parallel: int | None,
    most_tasks: int | None = None,
    room: int | None = None,
    offline: bool = False,
) -> Handing:
    """One array a shape of resources, split where the site's limits ask for it.

    Args:
        parallel: jobs at once at most; None: no cap.
        most_tasks: tasks that an array can have (MaxArraySize); 0 or 1: the site has no arrays.
        room: jobs that the user may still submit.
    """
    shapes: dict[Resources, list[Run]] = {}
    for run in todo:
        shapes.setdefault(run.resources, []).append(run)
    arrays = []
    left_out: list[Run] = []
    for resources, runs in shapes.items():
        tasks = [runs[index : index + resources.pack] for index in range(0, len(runs), resources.pack)]
        if room is not None:
            left_out += [run for task in tasks[room:] for run in task]
            tasks = tasks[:room]
            room -= len(tasks)
        first = 0
        for size in split_sizes(len(tasks), most_tasks):
            arrays.append(Array(resources, tasks[first : first + size]))
            first += size
    caps, chained = batch_script.shares([len(array.tasks) for array in arrays], parallel)
    for array, cap in zip(arrays, caps, strict=True):
        array.parallel, array.after_previous = cap, chained
    variables = {**(batch_script.OFFLINE if offline else {}), **dict(profile.environment)}
    secrets = {name: value for name, value in variables.items() if redaction.is_secret(name, value)}
    environment = {name: value for name, value in variables.items() if name not in secrets}
    if code.commit:
        environment["HYPERFORMER_COMMIT"] = code.commit
    return Handing(profile, arrays, environment, left_out, secrets, code)


def split_sizes(count: int, most: int | None) -> list[int]:
    return batch_script.split(count, most) if count else []


def texts(ledger: Ledger, handing: Handing) -> list[str]:
    """The sbatch file of each array, as it would be submitted now; writes nothing."""
    first = ledger.next_submission()
    return [
        handing.text(
            ledger, array, first + index,
            "JOB_ID_OF_THE_ONE_BEFORE" if array.after_previous and index else None,
        )
        for index, array in enumerate(handing.arrays)
    ]  # fmt: skip


def hand_to_slurm(ledger: Ledger, handing: Handing) -> list[tuple[str, int]]:
    """Submit the arrays.

    Returns:
        (job id, number of runs) of each array.

    Raises:
        ClusterError: SLURM took no job of an array; those before it stay submitted.
    """
    handing.code.write()
    entries = [[_entry(ledger, run) for run in array.runs] for array in handing.arrays]
    number = ledger.next_submission() - 1
    previous: str | None = None
    handed = []
    for array, runs in zip(handing.arrays, entries, strict=True):
        number += 1
        submission = Submission(
            number, ledger.job_name(number), handing.profile.word, time.time(), str(handing.code.folder),
            groups(runs, array.resources.pack), ranks=array.resources.ranks,
            cpus=array.resources.cpus_per_task, shape=dataclasses.asdict(array.resources),
            policy=handing.profile.policy.as_json(),
        )  # fmt: skip
        lines = task_lines(submission.tasks)
        record = ledger.record_submission(submission, lines)
        after = previous if array.after_previous else None
        try:
            parameters = handing.parameters(ledger, array, number, after)
            with submitit_executor.environment(handing.secrets):
                previous = submitit_executor.submit_array(
                    ledger.submitit, record, len(array.tasks), parameters, handing.python(ledger, array)
                )
        except HyperformerError:
            reconcile.settle(ledger)  # SLURM may have taken it, and its answer been lost
            raise
        ledger.record_submission(dataclasses.replace(submission, job_id=previous), lines)
        handed.append((previous, len(array.runs)))
    return handed


def _entry(ledger: Ledger, run: Run) -> Entry:
    return Entry(
        run.signature, run.name, ledger.folder(run).name, ledger.next_number(run), entry_settings(run.config)
    )


def stop(ledger: Ledger, touched: Sequence[tuple[Run, RunStatus]]) -> None:
    """Cancel runs: those that go save and end, those that wait are not started.

    Raises:
        ClusterError: SLURM refuses, or a run is on another machine.
    """
    for run, _ in touched:
        ledger.mark_cancelled(run)
    job_queue.cancel(_whole_jobs(ledger, touched))
    for run, status in touched:
        if status.cluster == "local" and status.state == "running":
            _stop_local(ledger, run)


def _whole_jobs(ledger: Ledger, touched: Sequence[tuple[Run, RunStatus]]) -> list[str]:
    """Jobs to cancel. One whose other packed runs go on is left; it sees which of its runs are cancelled."""
    chosen = {run.signature for run, _ in touched}
    newest = ledger.newest_jobs()
    found: dict[str, bool] = {}
    for run, status in touched:
        if status.cluster != "slurm" or not status.job_id:
            continue
        others: list[Entry] = []
        if run.signature in newest:
            submission, index, _ = newest[run.signature]
            others = [entry for entry in submission.tasks[index] if entry.signature not in chosen]
        alone = all(_has_ended(ledger, entry) for entry in others)
        found[status.job_id] = found.get(status.job_id, True) and alone
    return [job_id for job_id, alone in found.items() if alone]


def _has_ended(ledger: Ledger, entry: Entry) -> bool:
    return (ledger.path / entry.folder / "attempts" / str(entry.attempt) / "outcome.json").exists()


def _stop_local(ledger: Ledger, run: Run) -> None:
    attempt = last_attempt(ledger.folder(run))
    record = (try_record(attempt.job) or try_record(attempt.started)) if attempt else None
    if record is None or is_alive(record) is None:
        raise ClusterError(f"{run.name} runs on {record and record.get('host')}: cancel it there")
    if is_alive(record):
        os.kill(record["pid"], signal.SIGTERM)
