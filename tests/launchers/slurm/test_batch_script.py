"""The text that sbatch gets, held by golden files; renew them with HYPERFORMER_RENEW=1."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import manual_pages
import pytest

from hyperformer.errors import ConfigError
from hyperformer.settings.build import replace
from hyperformer.settings.config_files import load_config
from hyperformer.settings.schema import VARIANTS
from hyperformer.settings.signature import signature
from launchers.job.pack import assign_gpus
from launchers.plan.cluster_profile import ClusterProfile, load_profile
from launchers.plan.resources import Resources
from launchers.slurm import batch_script
from launchers.slurm.array_plan import ArrayPlan
from launchers.slurm.group_into_arrays import split, split_throttle
from launchers.slurm.site import gpus_of
from launchers.store.code_snapshot import Snapshot
from launchers.store.ledger import LedgerError
from launchers.store.sweep_folder import SweepFolder

GOLDEN = Path(__file__).parent / "golden"
FULL = Resources(
    gpus_per_node=4, cpus_per_task=8, mem_gb=1.5, time=90, partition="gpu", nodes=2, account="lab", qos="long",
    constraint="a100|h100", reservation="paper", exclude="node[3-4]", mail="me@example.org",
    sbatch=(("hint", "nomultithread"), ("exclusive", None), ("wckey", "lab")), srun=("--cpu-bind=cores",),
    setup=("module load cuda # 12", "source ~/venv/bin/activate"),
)  # fmt: skip
CASES: dict[str, tuple[str, Resources, dict[str, Any], int]] = {
    "bare": ("/runs/s", Resources(gpus_per_node=0), {}, 1),
    "array": ("/runs/s", Resources(), {"throttle": 8}, 200),
    "full": ("/runs/s", FULL, {"throttle": 2, "environment": {"HF_HOME": "/a b/hf"}}, 12),
    "spaces_and_quotes": ("/my 'runs'/$(x) \"y\"", Resources(tasks_per_node=2), {}, 3),
    "packed": ("/runs/s", Resources(gpus_per_node=1, cpus_per_task=8, pack=4), {}, 5),
}


def array_plan(folder: Path, resources: Resources, tasks: int, **more: Any) -> ArrayPlan:
    profile = ClusterProfile("slurm", python="python")
    code = Snapshot(folder / "code" / "0123")
    return ArrayPlan(
        1, "hyperformer-s-abc123", SweepFolder(folder), profile, resources, ((),) * tasks, code, **more
    )


@pytest.mark.parametrize("case", CASES)
def test_sbatch_text(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    folder, resources, more, tasks = CASES[case]
    text = array_plan(Path(folder), resources, tasks, **more).text
    golden = GOLDEN / f"{case}.sbatch"
    if os.environ.get("HYPERFORMER_RENEW"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_shellcheck_has_nothing_against_the_template_nor_what_it_becomes() -> None:
    tool = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert tool, "pip install -e '.[dev]' brings it"
    template = Path(batch_script.__file__).with_suffix(".sh")
    done = subprocess.run([tool, template], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    # SC1090, SC1091: what `source` reads in a user's set-up is not here.
    words = ["--severity=warning", "--exclude=SC1090,SC1091"]
    done = subprocess.run([tool, *words, *GOLDEN.glob("*.sbatch")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_srun_is_told_nothing_by_a_login_shell(tmp_path: Path) -> None:
    """bash reads BASH_ENV before the script, as a job with --get-user-env has the variables of a login shell."""
    names = manual_pages.read_by_srun_only() | {
        "SLURM_CLUSTERS",
        "SCONTROL_ALL",
        "SRUN_NEW",
        "SLURM_TIMELIMIT",
    }
    shell = tmp_path / "shell"
    shell.write_text("".join(f"export {name}=nonsense\n" for name in names | {"SLURM_HINT", "SLURM_JOB_ID"}))
    (tmp_path / "srun").write_text('#!/bin/sh\nenv; echo "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    text = array_plan(tmp_path, Resources(), 1).text.replace("code=75", "start; exit", 1)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASH_ENV": str(shell)}
    done = subprocess.run(["bash"], input=text, env=environment, text=True, capture_output=True)
    seen = {line.partition("=")[0] for line in done.stdout.splitlines() if line.endswith("=nonsense")}
    assert seen == {"SLURM_HINT", "SLURM_JOB_ID"} and "--export=ALL" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("variables", "job"),
    [({}, "7"), ({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2")],
)
def test_scontrol_is_asked_for_this_task_only(variables: dict[str, str], job: str, tmp_path: Path) -> None:
    """The run fails, the epilogue sees what SLURM says of the job, and asks for a requeue that it cannot make."""
    for name, script in (
        ("srun", "exit 3"),
        ("scontrol", f'echo "$@" >>{tmp_path}/asked; echo JobState=RUNNING'),
        (
            "python",
            f'echo "$@ $HYPERFORMER_JOB_STATE" >>{tmp_path}/told; exit {batch_script.REQUEUE_EXIT_CODE}',
        ),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", **variables}
    text = array_plan(tmp_path, Resources(), 1).text
    done = subprocess.run(["bash"], input=text, env=environment, text=True, capture_output=True)
    assert done.returncode == batch_script.REQUEUE_EXIT_CODE, done.stderr
    assert (tmp_path / "asked").read_text() == f"show job --oneliner {job}\nrequeue {job}\n"
    told = (tmp_path / "told").read_text()
    assert "launchers.job.epilogue" in told and " 3 bash JobState=RUNNING" in told
    # Last, whatever comes of it: this python fails.
    assert told.splitlines()[-1].startswith(f"-u -m launchers.renew {tmp_path} ")


def test_each_start_knows_where_its_part_of_the_log_begins(tmp_path: Path) -> None:
    """The job's log is one file for all its starts; what SLURM wrote for an earlier one must not count."""
    commands = tmp_path / "commands"
    commands.mkdir()
    answer = (
        f"[ -e {tmp_path}/again ] && exit 0; touch {tmp_path}/again; exit {batch_script.RESTART_EXIT_CODE}"
    )
    for name, text in (
        ("srun", "echo of this start >&2"),
        ("python", f"echo $HYPERFORMER_LOG_FROM >>{tmp_path}/from; {answer}"),
    ):
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    log = tmp_path / "job.err"
    log.write_text(
        "slurmstepd: error: *** JOB 7 ON node1 CANCELLED AT 2026-11-26T02:38:41 DUE TO PREEMPTION ***\n"
    )
    before = log.stat().st_size
    variables = {"PATH": f"{commands}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    with log.open("a") as stderr:
        subprocess.run(
            ["bash"],
            input=array_plan(tmp_path, Resources(), 1, renew_report=False).text,
            text=True,
            env=variables,
            stderr=stderr,
            check=True,
        )
    told = (tmp_path / "from").read_text().split()
    assert [int(each) for each in told] == [before, before + len("of this start\n")]


def test_exit_codes_of_the_epilogue_are_those_of_the_script() -> None:
    text = Path(batch_script.__file__).with_suffix(".sh").read_text()
    assert (
        f'"$code" -eq {batch_script.RESTART_EXIT_CODE} ]' in text
        and f'"$code" -ne {batch_script.REQUEUE_EXIT_CODE} ]' in text
    )


def test_what_sbatch_is_told_besides_the_text() -> None:
    plan = array_plan(Path("/runs/s"), Resources(), 1)
    assert plan.options() == []
    other = dataclasses.replace(plan, profile=ClusterProfile("x", slurm_cluster="hpc2"), after_previous=True)
    assert other.options("7") == ["--dependency=afterany:7", "--clusters=hpc2"]
    assert other.options()[0] == "--dependency=afterany:JOB_OF_THE_ARRAY_BEFORE"


def test_what_is_filled_in_is_not_read_as_a_place() -> None:
    resources = Resources(setup=("echo '@@python@@'",), sbatch=(("comment", "@@record@@"),))
    text = array_plan(Path("/runs/s"), resources, 1).text
    assert "echo '@@python@@'\n" in text and "--comment=@@record@@\n" in text


def test_set_up_that_fails_ends_the_job() -> None:
    for command, code, said in (("false # it's", 1, "set-up failed: false # it's"), ("export A=1", 0, "")):
        script = f"{batch_script.setup([command])}\nexit $((A - 1))"
        done = subprocess.run(["bash"], input=script, text=True, capture_output=True)
        assert done.returncode == code and said in done.stderr


@pytest.mark.parametrize(
    ("sizes", "cap", "parts", "chained"),
    [
        ([5], None, [None], False),
        ([5], 2, [2], False),
        ([5, 5], None, [None, None], False),
        ([1000, 10], 8, [7, 1], False),
        ([3, 3, 3], 2, [2, 2, 2], True),
    ],
)
def test_a_cap_over_several_arrays(
    sizes: list[int], cap: int | None, parts: list[int | None], chained: bool
) -> None:
    assert split_throttle(sizes, cap) == (parts, chained)


def test_shares_use_the_whole_cap_and_no_more() -> None:
    for sizes in ([7, 1, 1], [100, 50, 3, 2], [1, 1, 1, 1], [999, 998]):
        for cap in range(len(sizes), 40):
            parts, chained = split_throttle(sizes, cap)
            assert not chained and sum(part or 0 for part in parts) == cap and all(parts)


def test_small_rules() -> None:
    assert split(10, 4) == [4, 3, 3] and split(4, 4) == [4] and split(3, None) == [3]
    assert assign_gpus("0,1", 3) == ["0", "1", "0"] and assign_gpus("", 1) == [""]
    assert gpus_of("gpu:a100:4(S:0-1),gpu:t4:1,gpu,shard:8") == {"a100": 4, "t4": 1, "": 1}
    assert gpus_of("gpu:a100_1g.5gb:7") == {"a100_1g.5gb": 7} and gpus_of("(null)") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resorces: {}", r"c.yaml, line 1, resorces: unknown key 'resorces'; did you mean 'resources'"),
        ("resources:\n  gpu: 1", r"line 2, resources.gpu: unknown resource 'gpu'"),
        ("resources:\n  nodes: 0", r"line 2, resources.nodes: must be a whole number of at least 1"),
        ("resources:\n  exclude: a b", r"line 2, .*must be names of nodes"),
        ("resources:\n  sbatch: {array: 1-3}", r"line 2, .*--array is the launcher's to decide"),
        ("resources:\n  sbatch: {mem: 3}", r"--mem is `mem_gb:`"),
        ("resources: {pack: 2, nodes: 2}", r"packed runs .* have one rank each"),
        ("confirm_above: many", r"line 1, confirm_above: must be a number of GPU-hours above 0"),
        ("environment: {A-B: 1}", r"'A-B' cannot name an environment variable"),
        (
            "retries: {hangs: 1}",
            r"line 1, retries.hangs: unknown kind of failure 'hangs'; did you mean 'hang'",
        ),
        ("retries: {bug: 1}", r"never restarted automatically"),
        ("resources:\n  nodes: 10000000000", r"line 2, resources.nodes: must be .* at most 1,000,000,000"),
        ("resources:\n  time: 10000000000", r"line 2, resources.time: must be minutes"),
        (
            "resources:\n  gpus_per_node: a100:99999999999",
            r"line 2, resources.gpus_per_node: must be a number of GPUs",
        ),
        ("retries: {hang: some}", r"must be a whole number of at least 0"),
        ("offline: 1", r"must be true or false"),
        ("resources: {mail: you}", r"must be a mail address"),
    ],
)
def test_profiles_are_strict(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_profile(str(path))
    assert re.search(message, str(error.value)), error.value


def test_shipped_profiles_load() -> None:
    example = load_profile("example")
    assert example.resources.setup[0] == "module load cuda/12.6" and example.offline
    assert dict(example.environment)["NCCL_DEBUG"] == "WARN"
    assert load_profile("own").max_parallel == 2
    assert load_profile("local").is_local and not load_profile("slurm").is_local
    with pytest.raises(ConfigError, match="did you mean 'example'"):
        load_profile("exmple")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_job_trains_the_method_that_was_planned(variant: str, tmp_path: Path) -> None:
    from launchers.store.submissions import QueuedRun, changed_settings

    config = load_config(variant)
    entry = QueuedRun(signature(config), "n", "n", 1, changed_settings(config))
    assert replace(entry.config(tmp_path), output_dir=config.output_dir) == config
    with pytest.raises(LedgerError, match="settings of another run"):
        QueuedRun("0123456789", "n", "n", 1, changed_settings(config)).config(tmp_path)


def test_a_job_reads_the_very_config_that_was_planned(tmp_path: Path) -> None:
    from hyperformer.settings.schema import RunConfig
    from launchers.store.submissions import QueuedRun, Submission, changed_settings, read, write
    from launchers.store.sweep_folder import SweepFolder

    config = replace(
        RunConfig(), tasks=["rte"], seed=3, learning_rate=1e-3, n_train=7, dropout=0.2, output_dir="x"
    )
    entry = QueuedRun(signature(config), "n ä", "n-abc", 2, changed_settings(config))
    path = write(
        SweepFolder(tmp_path),
        Submission(1, "j", "slurm", 1.0, "/code", [[entry]], shape={"sbatch": (("a", None),)}),
    )
    (read_back,) = read(path).tasks[0]
    assert replace(read_back.config(tmp_path), output_dir="x") == config
    assert set(entry.settings) == {"tasks", "seed", "learning_rate", "n_train", "dropout"}
