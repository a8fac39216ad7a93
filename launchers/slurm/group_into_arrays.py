"""How the runs of a sweep are grouped into job arrays: by resources, within the limits of the site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.plan import Run
from launchers.plan.resources import Resources
from launchers.slurm import batch_script
from launchers.slurm.accounting import Accounting
from launchers.slurm.array_plan import ArrayPlan
from launchers.store import redaction
from launchers.store.code_snapshot import Snapshot
from launchers.store.ledger import Ledger


@dataclass(frozen=True)
class Limits:
    """What holds arrays back; None: no limit.

    Attributes:
        parallel: jobs of the sweep at once.
        array_size: tasks of one array (MaxArraySize); 0 or 1: the site has no arrays.
        accounting: which knows how many more jobs the user may submit.
    """

    parallel: int | None = None
    array_size: int | None = None
    accounting: Accounting = Accounting()


def group_into_arrays(
    ledger: Ledger, runs: Sequence[Run], profile: ClusterProfile, code: Snapshot, limits: Limits
) -> tuple[list[ArrayPlan], list[Run]]:
    """One array for each shape of resources, split where the site's limits ask for it.

    Returns:
        The arrays, and the runs for which the submit limit has no room now.
    """
    groups, left_out = _grouped(runs, limits)
    throttles, chained = split_throttle([len(tasks) for _, tasks in groups], limits.parallel)
    variables = {**(batch_script.OFFLINE if profile.offline else {}), **dict(profile.environment)}
    secrets = {name: value for name, value in variables.items() if redaction.is_secret(name, value)}
    environment = {name: value for name, value in variables.items() if name not in secrets}
    if code.commit:
        environment["HYPERFORMER_COMMIT"] = code.commit
    first = ledger.next_submission()
    arrays = [
        ArrayPlan(
            number, ledger.job_name(number), ledger.paths, profile, resources, tasks, code,
            environment, secrets, throttle, after_previous=chained and number > first,
            renew_report=ledger.plan.renew_report,
        )
        for number, ((resources, tasks), throttle) in enumerate(zip(groups, throttles, strict=True), first)
    ]  # fmt: skip
    return arrays, left_out


_Tasks = tuple[tuple[Run, ...], ...]


def _grouped(runs: Sequence[Run], limits: Limits) -> tuple[list[tuple[Resources, _Tasks]], list[Run]]:
    """The tasks of each array with their resources, and the runs beyond the submit limit."""
    shapes: dict[Resources, list[Run]] = {}
    for run in runs:
        shapes.setdefault(run.resources, []).append(run)
    left = {limit: limit.left for limit in limits.accounting.limits}
    groups: list[tuple[Resources, _Tasks]] = []
    left_out: list[Run] = []
    for resources, members in shapes.items():
        pack = resources.pack
        tasks = [tuple(members[index : index + pack]) for index in range(0, len(members), pack)]
        counted_by = limits.accounting.limits_on(resources)
        room = min((left[limit] for limit in counted_by), default=len(tasks))
        left_out += [run for task in tasks[room:] for run in task]
        tasks = tasks[:room]
        for limit in counted_by:
            left[limit] -= len(tasks)
        for size in split(len(tasks), limits.array_size) if tasks else ():
            groups.append((resources, tuple(tasks[:size])))
            tasks = tasks[size:]
    return groups, left_out


def split_throttle(sizes: Sequence[int], parallel: int | None) -> tuple[list[int | None], bool]:
    """The throttle of the whole sweep (ArrayTaskThrottle), split among its arrays.

    SLURM throttles one array, not several together. So each gets its part by size,
    and where there are more arrays than places they run one after the other.

    Args:
        sizes: tasks of each array.
        parallel: tasks at once at most, of all arrays together; None: no limit.

    Returns:
        The throttle of each array, and whether each must wait for the one before.

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
    """Sizes of arrays for `count` tasks, `most` at most in each, as even as possible.

    >>> split(10, 4)
    [4, 3, 3]
    """
    if not most or count <= most:
        return [count]
    arrays = -(-count // most)
    return [count // arrays + (index < count % arrays) for index in range(arrays)]
