"""Names and values that a shell, sbatch or a path would read otherwise, through the whole way to a real job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster
from small_sweep import SMALL, slurm, wait_for, write
from sweep_command import REPOSITORY, CommandLine

ODD = [
    'it\'s "so" $(touch evil) `touch evil` $HOME',
    "-leading --dash; & | > x # é 日本",
    "a\\tb\\\\c",
    "sp  ace ",
]
INJECTION = "x\n#SBATCH --comment=evil\n#SBATCH --hold\n"


def profile(line: CommandLine, text: str) -> None:
    (line.folder / "clusters").mkdir(exist_ok=True)
    (line.folder / "clusters/odd.yaml").write_text(text, encoding="utf-8")


def logs(line: CommandLine, runs: str = "runs") -> str:
    return "".join(path.read_text() for path in (line.folder / runs).glob("s/submitit/*_log.out"))


@pytest.mark.parametrize("folder", [name for name in ODD if "\\" not in name])
def test_folders(slurm_line: CommandLine, folder: str) -> None:
    line = slurm_line
    line.folder = line.folder / folder
    line.folder.mkdir()
    write(line, "1")
    code, out = line.run("s.yaml", f"--runs-dir=r {folder}")
    assert code == 0, out
    assert line.run("status", "s.yaml", "-w", f"--runs-dir=r {folder}")[0] == 0
    assert "start at step 0" in line.run("logs", "s.yaml", "*", f"--runs-dir=r {folder}")[1]
    assert not list(line.folder.parent.rglob("evil"))


@pytest.mark.parametrize("folder", ["a\\b", "50%", "two\nlines"])
def test_folders_that_slurm_would_read_otherwise_are_refused(slurm_line: CommandLine, folder: str) -> None:
    write(slurm_line, "1")
    code, out = slurm_line.run("s.yaml", "--runs-dir", folder)
    assert code == 2 and "choose another --runs-dir" in out and not (slurm_line.folder / folder).exists()


def test_the_code_in_a_folder_with_an_odd_name(slurm_line: CommandLine) -> None:
    line = slurm_line
    code = line.folder / ODD[0].replace("/", "")
    for package in ("hyperformer", "launchers", "sweeps", "clusters"):
        shutil.copytree(REPOSITORY / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
    write(line, "1")
    command = [sys.executable, str(code / "launchers/sweep.py"), "s.yaml"]
    done = subprocess.run(command, cwd=line.folder, env=line.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wait_for(line, lambda counts: counts == {"done": 1})


def test_values_of_a_profile(slurm_line: CommandLine) -> None:
    import yaml

    line = slurm_line
    values = {f"ODD{index}": value for index, value in enumerate([*ODD, INJECTION])}
    secret = "s3cr3t " + "'of' $(x) mine"  # put together: this file is in the copy of the code
    values["WANDB_API_KEY"] = secret
    setup = [f'printf "<%s>\\n" "${name}"' for name in values] + [f"echo '{INJECTION}'", "echo 日本 # it's"]
    text = {"environment": values, "resources": {"setup": setup, "sbatch": {"comment": ODD[0]}}}
    profile(line, yaml.safe_dump(text))
    write(line, "1")
    code, out = line.run("s.yaml", "--cluster", "odd")
    assert code == 0, out
    (job,) = [run["job_id"] for run in line.status()["runs"].values()]
    shown = slurm(line, "scontrol", "show", "job", job)
    assert f"Comment={ODD[0]}" in shown and "evil\n" not in shown.replace(ODD[0], "")
    wait_for(line, lambda counts: counts == {"done": 1})
    for value in values.values():
        assert f"<{value}>\n" in logs(line)
    assert not list(line.folder.rglob("evil"))
    holders = [
        path.name for path in (line.folder / "runs").rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes() and not path.is_symlink()
        and not path.name.endswith("_log.out")
    ]  # fmt: skip
    assert holders == []


@pytest.mark.parametrize(
    "resources",
    [
        'sbatch: {comment: "a\\n#SBATCH --hold"}', 'partition: "debug\\n#SBATCH --hold"', "partition: '-x $(y)'",
        'account: "a\\nb"', 'constraint: "a\\nb"', 'mail: "a@b\\n#SBATCH"', 'exclude: "n\\n#"', 'qos: "q\\r"',
        "sbatch: {'comment=x --hold': y}", 'reservation: "r\\n"',
    ],
)  # fmt: skip
def test_directives_cannot_be_slipped_in(slurm_line: CommandLine, resources: str) -> None:
    write(slurm_line, "1", resources=f"{SMALL}, {resources}")
    code, out = slurm_line.run("s.yaml", "-n")
    assert code == 2 and "s.yaml, line 7, resources." in out and "Traceback" not in out


@pytest.mark.parametrize(
    "name", ["'it''s'", "'$(x)'", '"a\\nb"', "'日本'", "'a b'", "-n", "'.hidden'", "'../up'"]
)
def test_names_of_sweeps(slurm_line: CommandLine, name: str) -> None:
    path = write(slurm_line, "1")
    path.write_text(f"name: {name}\n{path.read_text()}")
    code, out = slurm_line.run("s.yaml", "-n")
    if name == "-n":
        assert code == 0 and "--job-name=hyperformer--n-" in out
    else:
        assert code == 2 and "cannot name a folder" in out


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_umask(slurm_cluster: SlurmCluster, slurm_line: CommandLine, umask: int) -> None:
    line = slurm_line
    write(line, "1")
    before = os.umask(umask)
    try:
        assert line.run("s.yaml")[0] == 0
        wait_for(line, lambda counts: counts == {"done": 1})
    finally:
        os.umask(before)
    for path in Path(line.folder / "runs").rglob("*"):
        if not path.is_symlink() and "_log." not in path.name:  # SLURM's own are the site's business
            assert path.stat().st_mode & umask == 0, path
