"""A known secret in the environment, in the remote's address and in the working tree gets into no file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_command import REPOSITORY, TOY, CommandLine

from hyperformer.errors import HyperformerError
from launchers import sweep
from launchers.plan.cluster_profile import ClusterProfile
from launchers.plan.plan import Plan
from launchers.plan.resources import Resources
from launchers.slurm.array_plan import ArrayPlan
from launchers.slurm.group_into_arrays import Limits, group_into_arrays
from launchers.store import code_snapshot, redaction
from launchers.store.attempts import Attempt, Outcome
from launchers.store.code_snapshot import Snapshot
from launchers.store.ledger import Ledger
from launchers.submit.slurm_start_plan import _in_scripts

NO_CODE = Snapshot(Path("code"))
MARK = "s3cr3tFakeValue0123456789"
NAMES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "WANDB_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "MY_PASSWORD",
    "X_SECRET",
)


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, f"{MARK}{name}")


def holders(folder: Path) -> list[str]:
    """The files below that hold the secret, in their content or their name."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if MARK in path.name or (path.is_file() and MARK.encode() in path.read_bytes())
    ]


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_a_snapshot_holds_none(secrets: None, tmp_path: Path) -> None:
    code = tmp_path / "checkout"
    for name, text in {
        "launchers/job/attempt.py": "x = 1\n", "hyperformer/run.py": f"TOKEN = '{MARK}HF_TOKEN'\n",
        ".env.example": "A=\n",
        "settings.env": "A=1\n", "run.sh": "#!/bin/sh\n",
    }.items():  # fmt: skip
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text(text)
    (code / "run.sh").chmod(0o755)
    git(tmp_path, "init", "-q", str(code))
    git(code, "remote", "add", "origin", f"https://me:{MARK}@example.org/x.git")
    git(code, "add", "-A")
    git(code, "commit", "-qm", "one")
    (code / "launchers/job/attempt.py").write_text(
        f"x = 'https://me:{MARK}@example.org/simple'\ny = '{MARK}X_SECRET'\n"
    )
    (code / "settings.env").write_text(f"A={MARK}\n")  # tracked, and changed
    for name in (
        ".env",
        ".env.local",
        ".netrc",
        ".huggingface/token",
        "sub/credentials",
        "k.pem",
        ".aws/config",
    ):
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text(f"machine x password {MARK}\n")
    taken = code_snapshot.take(code, tmp_path / "code")
    assert holders(tmp_path / "code") == []
    there = {str(path.relative_to(taken.folder)) for path in taken.folder.rglob("*") if path.is_file()}
    assert {name for name in there if ".snapshot" not in name} == {
        "launchers/job/attempt.py", "hyperformer/run.py", ".env.example", "run.sh"
    }  # fmt: skip
    assert "https://[hidden]@example.org" in (taken.folder / "launchers/job/attempt.py").read_text()
    assert os.access(taken.folder / "run.sh", os.X_OK) and not os.access(
        taken.folder / "launchers/job/attempt.py", os.X_OK
    )
    diff = (taken.folder / ".snapshot/changes.diff").read_text()
    assert "+x = 'https://[hidden]@example.org/simple'" in diff and "settings.env" not in diff


def test_a_local_sweep_writes_none(
    secrets: None, command_line: CommandLine, write_sweep: Callable[[str], Path]
) -> None:
    write_sweep(
        f"{{base: {TOY}, variants: [hyperformer++], tasks: [toy-sentiment], grid: {{seed: [1, 13, 14]}}}}"
    )
    command_line.environment |= {name: f"{MARK}{name}" for name in NAMES}
    command_line.environment["PIP_INDEX_URL"] = f"https://me:{MARK}@example.org/simple"
    (command_line.folder / ".env").write_text(f"HF_TOKEN={MARK}\n")
    assert command_line.run("s.yaml", "--cluster", "local")[0] == 1
    for command in ("status", "report", "why"):
        assert MARK not in command_line.run(command, "s.yaml")[1]
    assert len(list((command_line.folder / "runs").rglob("*"))) > 30
    assert holders(command_line.folder) == [".env"]


def test_outcomes_and_errors_hold_none(
    secrets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    message = f"401 for https://u:{MARK}@example.org with {MARK}HF_TOKEN and hf_{'a1' * 15}"
    Attempt(tmp_path).write_outcome(Outcome("failed", message=message, traceback_tail=("x", message), rank=0))
    assert holders(tmp_path) == []
    text = (tmp_path / "outcome.json").read_text()
    assert "https://[hidden]@example.org with [hidden] and [hidden]" in text and '"rank": 0' in text

    def fails(arguments: object) -> int:
        raise HyperformerError(message)

    monkeypatch.setattr(sweep, "run", fails)
    assert sweep.main(["status", "x"]) == 2
    assert MARK not in capsys.readouterr().err


def test_a_profiles_secrets_are_not_in_the_sbatch_file(
    secrets: None, plan_of: Callable[[str], Plan], tmp_path: Path
) -> None:
    plan = plan_of("{variants: [finetune], tasks: [rte]}")
    values = {
        "WANDB_API_KEY": "k",
        "MINE": f"{MARK}HF_TOKEN",
        "PIP_INDEX_URL": "https://u:p@h",
        "HF_HOME": "/hf",
    }
    profile = ClusterProfile("x", environment=tuple(values.items()))
    (array,), _ = group_into_arrays(Ledger(plan, tmp_path), plan.runs, profile, NO_CODE, Limits())
    assert array.environment == {"HF_HOME": "/hf"} and array.secrets.keys() == values.keys() - {"HF_HOME"}
    assert not list(_in_scripts([array]))

    def changed(**resources: Any) -> ArrayPlan:
        return replace(array, resources=Resources(**resources))

    def leaks(**resources: Any) -> str:
        return "\n".join(found.text for found in _in_scripts([changed(**resources)]))

    told = leaks(setup=(f"export HF_TOKEN={MARK}HF_TOKEN",))
    assert "would hold a secret: export HF_TOKEN=[hidden]" in told and MARK not in told


@pytest.mark.parametrize(
    "text", ["task-with-a-very-long-name-of-words-and-more", "a@b", "ssh://git@host/x", "hf_home"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redaction.hide(text) == text


@pytest.mark.parametrize(("umask", "file", "folder"), [("077", 0o600, 0o700), ("002", 0o664, 0o775)])
def test_files_have_the_users_umask(
    command_line: CommandLine, write_sweep: Callable[[str], Path], umask: str, file: int, folder: int
) -> None:
    write_sweep(f"{{base: {TOY}, variants: [hyperformer++], tasks: [toy-sentiment]}}")
    before = os.umask(int(umask, 8))
    try:
        assert command_line.run("s.yaml", "--cluster", "local")[0] == 0
        taken = code_snapshot.take(REPOSITORY, command_line.folder / "runs/s/code")
    finally:
        os.umask(before)
    assert (taken.folder / ".snapshot").is_dir()
    for path in (command_line.folder / "runs").rglob("*"):
        if not path.is_symlink():
            allowed = (
                {folder} if path.is_dir() else {file, file | (file & 0o444) >> 2}
            )  # scripts can be started
            assert path.stat().st_mode & 0o777 in allowed, path
