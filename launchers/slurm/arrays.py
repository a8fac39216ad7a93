"""Starting and stopping runs: what to start, and how it gets to the cluster. Prints nothing."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.resources import Resources
from launchers.plan.runs import Run
from launchers.slurm import batch_script, submitit_executor
from launchers.store import code_snapshot, redaction
from launchers.store.code_snapshot import Snapshot
from launchers.store.ledger import Ledger


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
        path = str(code) if container else code_snapshot.python_path(code)
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
            ledger.job_name(number), array.resources, path, ledger.paths.submission(number),
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
        record = ledger.paths.submission(number)
        return submitit_executor.sbatch_text(
            ledger.paths.submitit, record, len(array.tasks), parameters, self.python(ledger, array)
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
    caps, chained = shares([len(array.tasks) for array in arrays], parallel)
    for array, cap in zip(arrays, caps, strict=True):
        array.parallel, array.after_previous = cap, chained
    variables = {**(batch_script.OFFLINE if offline else {}), **dict(profile.environment)}
    secrets = {name: value for name, value in variables.items() if redaction.is_secret(name, value)}
    environment = {name: value for name, value in variables.items() if name not in secrets}
    if code.commit:
        environment["HYPERFORMER_COMMIT"] = code.commit
    return Handing(profile, arrays, environment, left_out, secrets, code)


def split_sizes(count: int, most: int | None) -> list[int]:
    return split(count, most) if count else []


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


def shares(sizes: Sequence[int], parallel: int | None) -> tuple[list[int | None], bool]:
    """A cap of the whole sweep, shared out among its arrays.

    SLURM caps an array, not several; so each gets its part by size, and where
    there are more arrays than places they go one after the other.

    Args:
        sizes: tasks of each array.
        parallel: tasks at once at most, of all arrays together; None: no cap.

    Returns:
        The cap of each array, and whether each must wait for the one before.

    >>> shares([1000, 1000, 500], 10)
    ([4, 4, 2], False)
    >>> shares([3, 3, 3], 2)
    ([2, 2, 2], True)
    """
    if parallel is None or len(sizes) <= 1:
        return [parallel] * len(sizes), False
    if parallel < len(sizes):
        return [parallel] * len(sizes), True
    total = sum(sizes)
    parts = [max(1, parallel * size // total) for size in sizes]
    while sum(parts) > parallel:  # the smallest were raised to 1
        parts[parts.index(max(parts))] -= 1
    for index in sorted(range(len(sizes)), key=lambda index: parts[index] / sizes[index]):
        if sum(parts) < parallel:
            parts[index] += 1
    return list(parts), False


def split(count: int, most: int | None) -> list[int]:
    """`count` tasks in arrays of `most` at most, as even as they come.

    >>> split(10, 4)
    [4, 3, 3]
    """
    if not most or count <= most:
        return [count]
    arrays = -(-count // most)
    return [count // arrays + (index < count % arrays) for index in range(arrays)]
