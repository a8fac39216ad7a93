"""What SLURM would refuse or leave waiting, by what it says of itself; tests/cluster has a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launchers.plan.plan import Plan
from launchers.plan.resources import Resources
from launchers.slurm.site import Partition, Reservation, Site
from launchers.submit.preflight_slurm import find_problems


def partition(name: str, **more: Any) -> Partition:
    values = {"nodes": 4, "gpus_per_node": 4, "cpus_per_node": 16, "mem_gb": 62.0, "features": {"a100", "ib"}}
    return Partition(name, **{**values, **more})


SITE = Site(
    {
        "debug": partition("debug", is_default=True),
        "short": partition("short", max_minutes=30, max_nodes=1, features={"t4", "ib"}),
        "away": partition("away", state="DOWN"),
        "closed": partition("closed", state="DRAIN"),
    },
    {"monday": Reservation("monday", 0.0, 1.0)},
    accounts={"lab"},
    qos={"normal", "long"},
)


@pytest.mark.parametrize(
    ("resources", "findings"),
    [
        (Resources(), []),
        (Resources(account="LAB", qos="Long", reservation="monday"), []),
        (Resources(account="lba"), ["account"]),
        (Resources(qos="lnog", reservation="tuesday"), ["qos", "reservation"]),
        (Resources(partition="short"), ["time"]),
        (Resources(partition="short,debug"), []),
        (Resources(partition="debug,short", nodes=2, constraint="t4"), ["constraint", "time", "nodes"]),
        (Resources(partition="short,debug,dbug"), ["partition"]),
        (Resources(partition="closed"), ["partition"]),
        (Resources(partition="closed,debug"), []),
        (Resources(partition="away"), []),
        (Resources(partition="short,debug", mem_gb=900, time=5), ["memory", "memory"]),
        (Resources(constraint="a100|h100"), []),
        (Resources(constraint="[a100|h100]"), []),
        (Resources(constraint="a100&h100"), ["constraint"]),
        (Resources(constraint="v100|h100"), ["constraint", "constraint"]),
        (Resources(constraint="(a100|h100)&ib"), []),  # sbatch decides
        (Resources(constraint="ib*2&a100*1", nodes=2), []),
    ],
)
def test_findings(plan_of: Callable[[str], Plan], resources: Resources, findings: list[str]) -> None:
    (run,) = plan_of("{variants: [finetune], tasks: [rte]}").runs
    found, _ = find_problems([replace(run, resources=resources)], SITE, Path("/shared/runs/s"))
    assert [each.name for each in found] == findings, found


def test_what_holds_for_some_partitions_of_a_list_is_a_note(plan_of: Callable[[str], Plan]) -> None:
    (run,) = plan_of("{variants: [finetune], tasks: [rte]}").runs
    run = replace(run, resources=Resources(partition="short,debug,away"))
    _, notes = find_problems([run], SITE, Path("/shared/runs/s"))
    assert notes == [
        "partition away is down now: jobs wait in it (finetune)",
        "jobs cannot run in all of their partitions: time: 60 minutes, but partition short allows 30 (finetune)",
    ]


def test_a_folder_that_the_nodes_do_not_share(plan_of: Callable[[str], Plan]) -> None:
    (run,) = plan_of("{variants: [finetune], tasks: [rte]}").runs
    far = replace(SITE, partitions={**SITE.partitions, "far": partition("far", hosts={"node7"})})
    for names, found in (("debug", []), ("far", ["shared-folder"]), ("debug,far", ["shared-folder"])):
        run = replace(run, resources=Resources(partition=names))
        assert [each.name for each in find_problems([run], far, Path("/tmp/runs/s"))[0]] == found


def test_a_deepspeed_file_that_fixes_another_global_batch(
    plan_of: Callable[[str], Plan], tmp_path: Path
) -> None:
    path = tmp_path / "ds.json"
    path.write_text('{"train_batch_size": 128}')
    (run,) = plan_of(f"{{variants: [finetune], tasks: [rte], base: {{deepspeed_config: {path}}}}}").runs
    for nodes, told in ((2, []), (1, ["batch"])):
        four = replace(run, resources=Resources(nodes=nodes, gpus_per_node=2))
        found, _ = find_problems([four], SITE, Path("/shared/runs/s"))
        assert [each.name for each in found] == told, found
    assert "train_batch_size is 128, but the settings make it 64" in found[0].text
