"""Limits on submitted jobs, with pretended answers of sacctmgr and squeue; tests/cluster has real ones."""

from __future__ import annotations

import getpass
import subprocess
from contextlib import suppress

import pytest

from launchers.plan.resources import Resources
from launchers.slurm import accounting, commands
from launchers.slurm.accounting import read_accounting
from launchers.slurm.commands import ClusterError
from launchers.slurm.site import read_site

ME = getpass.getuser()
USER = "lab|lab|long,normal||7\nlab|other|normal|normal|\n"
QOS = "normal|5||9\nlong||3|\nidle|||\n"
QUEUE = f"{ME}|lab|normal|debug\n{ME}|other|normal|debug\nyou|lab|normal|debug\nyou|lab|normal|short\n"
# Of `scontrol show assoc_mgr`, as SLURM 22.05 prints it, the lines that matter.
GROUPS = """Association Records
ClusterName=hpc Account=root UserName= Partition= Priority=0 ID=1
    ParentAccount= Lft=1 DefAssoc=No
    GrpSubmitJobs=N(3) GrpWall=N(0.00)
ClusterName=hpc Account=parent UserName= Partition= Priority=0 ID=5
    ParentAccount=root(1) Lft=2 DefAssoc=No
    GrpSubmitJobs=70(60) GrpWall=N(0.00)
ClusterName=hpc Account=other UserName= Partition= Priority=0 ID=6
    ParentAccount=parent(5) Lft=3 DefAssoc=No
    GrpSubmitJobs=N(1) GrpWall=N(0.00)
ClusterName=hpc Account=other UserName=me(0) Partition= Priority=0 ID=7
    ParentAccount= Lft=4 DefAssoc=No
    GrpSubmitJobs=5(9) GrpWall=N(0.00)
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []

    def check_output(*command: str, cluster: str | None = None) -> str:
        calls.append(command)
        if command[0] == "scontrol":
            return GROUPS
        return QUEUE if command[0] == "squeue" else USER if "user" in command else QOS

    monkeypatch.setattr(accounting, "check_output", check_output)
    return calls


@pytest.mark.parametrize(
    ("resources", "left"),
    [
        (Resources(), {"your account lab": [6], "the QOS normal": [3, 5]}),  # normal: it is in the list
        (
            Resources(account="OTHER"),
            {"the QOS normal": [3, 5], "your account other": [0], "the account parent with all its users": [10]},
        ),
        (Resources(qos="LONG"), {"your account lab": [6], "the QOS long": [2]}),  # short is long's partition
        (Resources(partition="debug,short"), {"your account lab": [6], "the QOS normal": [3, 5], "the QOS long": [2]}),
        (Resources(account="lab", qos="idle"), {"your account lab": [6]}),
    ],
)  # fmt: skip
def test_limits_that_count_a_job(
    resources: Resources, left: dict[str, list[int]], asked: list[tuple[str, ...]]
) -> None:
    found: dict[str, list[int]] = {}
    for limit in read_accounting("hpc", None, {"short": "long"}, enforced=True).limits_on(resources):
        found.setdefault(limit.words, []).append(limit.left)
    assert found == left
    assert sum(command[0] == "squeue" for command in asked) == 1 and "cluster=hpc" in asked[0]


def test_limits_that_are_not_enforced(asked: list[tuple[str, ...]]) -> None:
    found = read_accounting("hpc", None, {}, enforced=False)
    assert found.limits == () and found.qos == {"normal", "long", "idle"}
    assert all(command[0] == "sacctmgr" for command in asked)


ABOUT = {
    "config": "AccountingStorageType = accounting_storage/slurmdbd\nAccountingStorageEnforce = limits\n",
    "partition": "PartitionName=debug Default=YES State=UP MaxTime=1:00:00 MaxNodes=4 QoS=long\n",
    "node": "NodeName=n1 CPUTot=16 Gres=gpu:a100:4(S:0-1) RealMemory=64000 Partitions=debug\n",
    "reservation": "ReservationName=r StartTime=2026-01-01T00:00:00 EndTime=2026-01-02T00:00:00\n",
    "assoc_mgr": GROUPS, "user": USER, "qos": QOS, "squeue": QUEUE,
}  # fmt: skip


@pytest.mark.parametrize("which", ABOUT)
def test_an_answer_on_the_site_that_is_cut_anywhere(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error that is not ours, and with a warning before it it is whole."""
    told = dict(ABOUT)

    def run(command: tuple[str, ...], stdin: str) -> subprocess.CompletedProcess[str]:
        text = next(told[name] for name in told if name in command)
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr(commands, "_run", run)
    whole = read_site()
    assert whole.partitions["debug"].gpu_types == {"a100": 4} and whole.accounting.limits
    told[which] = f"scontrol: warning: a=b\n{ABOUT[which]}"
    assert read_site() == whole
    for end in range(0, len(ABOUT[which]), 7):
        told[which] = ABOUT[which][:end]
        with suppress(ClusterError):
            read_site()
