"""What the accounting database knows of this user: accounts, QOS, and how many more jobs it takes."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from launchers.plan.resources import Resources
from launchers.slurm.commands import check_output, rows

_PRESENT = "--states=PD,R,S,CG,CF"


@dataclass(frozen=True)
class Association:
    """The user in an account. SLURM keeps the names of accounts and QOS in lower case, and takes any."""

    account: str
    qos: frozenset[str]
    default_qos: str
    max_submit: int | None = None

    @property
    def qos_if_unsaid(self) -> str | None:
        """The QOS of a job that names none; None where that is not known."""
        if self.default_qos:
            return self.default_qos
        return next(iter(self.qos)) if len(self.qos) == 1 else "normal" if "normal" in self.qos else None


@dataclass(frozen=True)
class SubmitLimit:
    """A limit on the jobs that wait or run at the same time.

    Attributes:
        words: whose it is, for a message.
        left: how many more jobs it takes.
        account: it counts the jobs of this account only.
        qos: it counts the jobs of this QOS, and those in `partitions`, whose own QOS it is.
    """

    words: str
    left: int
    account: str | None = None
    qos: str | None = None
    partitions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Accounting:
    """What the database says.

    Attributes:
        default_account, default_partition: of a job that names none.
        qos: the names of all that exist.
        limits: those that SLURM enforces.
    """

    default_account: str = ""
    default_partition: str = ""
    associations: tuple[Association, ...] = ()
    qos: frozenset[str] = frozenset()
    limits: tuple[SubmitLimit, ...] = ()

    def limits_on(self, resources: Resources) -> list[SubmitLimit]:
        """The limits that count a job with these resources."""
        account = (resources.account or self.default_account).lower()
        unsaid = (each.qos_if_unsaid for each in self.associations if each.account == account)
        qos = resources.qos.lower() if resources.qos else next(unsaid, None)
        partitions = set((resources.partition or self.default_partition).split(","))
        return [
            limit
            for limit in self.limits
            if limit.account in (None, account)
            and (limit.qos in (None, qos) or partitions & limit.partitions)
        ]


def read_accounting(
    name: str, cluster: str | None, partition_qos: Mapping[str, str], enforced: bool
) -> Accounting:
    """Ask sacctmgr, and squeue for the jobs that count for a limit.

    Args:
        name: of the cluster whose accounts are meant: a database may keep those of several.
        cluster: the same, where it is not this machine's own.
        partition_qos: QOS by partition, of the partitions that have one.
        enforced: whether SLURM holds users to limits.

    Raises:
        ClusterError: it does not answer, or not this user.
    """
    user = getpass.getuser()
    mine = _show("user", user, "withassoc", f"cluster={name}",
                 fields="DefaultAccount,Account,QOS,DefaultQOS,MaxSubmitJobs")  # fmt: skip
    associations = tuple(
        Association(account, frozenset(filter(None, qos.split(","))), default, _number(most))
        for _, account, qos, default, most in mine
    )
    about_qos = _show("qos", fields="Name,MaxSubmitJobsPerUser,MaxSubmitJobsPerAccount,GrpSubmitJobs")
    limits: list[SubmitLimit] = []
    if enforced:
        queue = _Queue(user, cluster)
        limits += _of_accounts(associations, queue)
        output = check_output(
            "scontrol", "show", "assoc_mgr", f"users={user}", "flags=assoc", cluster=cluster
        )
        limits += _of_groups(output, [each.account for each in associations])
        for row in about_qos:
            partitions = frozenset(name for name, qos in partition_qos.items() if qos == row[0])
            limits += _of_qos(row, partitions, associations, queue)
    names = frozenset(row[0] for row in about_qos)
    return Accounting(mine[0][0] if mine else "", "", associations, names, tuple(limits))


class _Queue:
    """The jobs that wait or run; asked for once, and only if there is a limit."""

    def __init__(self, user: str, cluster: str | None) -> None:
        self._user, self._cluster = user, cluster

    @cached_property
    def _rows(self) -> list[list[str]]:
        words = ("--all", "--noheader", "--array", _PRESENT, "--format=%u|%a|%q|%P")
        output = check_output("squeue", *words, cluster=self._cluster)
        return list(rows(output, 4))

    def count(self, limit: SubmitLimit, of_user: bool) -> int:
        """The jobs that a limit counts."""
        return sum(
            (not of_user or user == self._user)
            and limit.account in (None, account)
            and (limit.qos in (None, qos) or partition in limit.partitions)
            for user, account, qos, partition in self._rows
        )

    def limit(self, most: str, of_user: bool, limit: SubmitLimit) -> list[SubmitLimit]:
        """The limit with what `most` leaves of it; none where there is no such limit."""
        number = _number(most)
        return [] if number is None else [replace(limit, left=max(0, number - self.count(limit, of_user)))]


def _of_accounts(associations: Sequence[Association], queue: _Queue) -> Iterator[SubmitLimit]:
    for each in associations:
        about = SubmitLimit(f"your account {each.account}", 0, each.account)
        yield from queue.limit(str(each.max_submit), True, about)


def _of_groups(output: str, accounts: Sequence[str]) -> Iterator[SubmitLimit]:
    """Limits that an account shares with all its users and the accounts below it (GrpSubmitJobs).

    Args:
        output: what slurmctld says of its associations; it counts their jobs itself: ``GrpSubmitJobs=7(1)``.
        accounts: the user's.
    """
    parents: dict[str, str] = {}
    left: dict[tuple[str, bool], int] = {}  # of an account as a whole, and of the user in it
    for record in output.split("ClusterName=")[1:]:
        fields = dict(re.findall(r"(\w+)=([^\s(]*)", record))
        key = fields["Account"], bool(fields["UserName"])
        if not key[1]:
            parents[key[0]] = fields["ParentAccount"]
        limit = re.search(r"GrpSubmitJobs=(\d+)\((\d+)\)", record)
        if limit:
            left[key] = max(0, int(limit[1]) - int(limit[2]))
    for account in accounts:
        if (account, True) in left:
            yield SubmitLimit(f"your account {account}", left[account, True], account)
        above = account
        while above:
            if (above, False) in left:
                yield SubmitLimit(f"the account {above} with all its users", left[above, False], account)
            above = parents.get(above, "")


def _of_qos(
    row: Sequence[str], partitions: frozenset[str], associations: Sequence[Association], queue: _Queue
) -> Iterator[SubmitLimit]:
    name, per_user, per_account, of_all = row
    about = SubmitLimit(f"the QOS {name}", 0, None, name, partitions)
    yield from queue.limit(per_user, True, about)
    yield from queue.limit(of_all, False, about)
    for each in associations:
        yield from queue.limit(per_account, False, replace(about, account=each.account))


def _show(*words: str, fields: str) -> list[list[str]]:
    output = check_output("sacctmgr", "--noheader", "--parsable2", "show", *words, f"format={fields}")
    return list(rows(output, fields.count(",") + 1))


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
