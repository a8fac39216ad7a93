"""Jobs in a container: the profile's `container:`, and the exact text for both runtimes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hyperformer.errors import ConfigError
from launchers.plan.cluster_profile import NO_PROFILE, load_profile
from launchers.plan.load_plan import load_plan
from launchers.slurm.group_into_arrays import Limits, group_into_arrays
from launchers.store.code_snapshot import Snapshot
from launchers.store.ledger import Ledger

GOLDEN = Path(__file__).parents[1] / "slurm" / "golden"
APPTAINER = (
    "container: {runtime: apptainer, image: /shared/hyperformer.sif, mounts: [/scratch, '/data:/data:ro']}"
)
PYXIS = (
    "container: {runtime: pyxis, image: 'registry.example.org#lab/hyperformer', mounts: ['/data:/data:ro']}"
)
CASES = {
    "apptainer": ("/runs", f"{APPTAINER}\nenvironment: {{HF_HOME: /scratch/hf}}"),
    "apptainer_cpu": (
        "/my 'runs'/$(x)",
        f"{APPTAINER}\nresources: {{gpus_per_node: 0}}\npython: /opt/p/bin/python3",
    ),
    "pyxis": (
        "/runs",
        f"{PYXIS}\nenvironment: {{HF_HOME: /data/hf}}\nresources: {{cpus_per_task: 8, nodes: 2}}",
    ),
    "pyxis_spaces": ("/my runs", PYXIS.replace("registry.example.org#lab/hyperformer", "/a b/h.sqsh")),
}


def sbatch_of(folder: Path, runs_dir: str, profile_text: str) -> str:
    (folder / "site.yaml").write_text(profile_text)
    sweep = folder / "s.yaml"
    sweep.write_text("variants: [hyperformer++]\ntasks: [rte]\ngrid: {seed: [1, 2]}\n")
    profile = load_profile(str(folder / "site.yaml"))
    plan = load_plan(str(sweep), profile)
    ledger = Ledger(plan, Path(runs_dir))
    code = Snapshot(Path(runs_dir) / "s/code/0123")
    (array,), _ = group_into_arrays(ledger, plan.runs, profile, code, Limits())
    return array.text


@pytest.mark.parametrize("case", CASES)
def test_sbatch_text_in_a_container(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/this/machines/packages")  # the container's python must not see them
    monkeypatch.setattr(sys, "executable", "/shared/venv/bin/python")
    text = sbatch_of(tmp_path, *CASES[case])
    golden = GOLDEN / f"{case}.sbatch"
    if os.environ.get("HYPERFORMER_RENEW"):
        golden.write_text(text)
    assert text == golden.read_text()
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_apptainer_gets_every_word_whole(tmp_path: Path) -> None:
    """bash reads the command as it was meant, with a pretended srun that shows its words."""
    text = sbatch_of(tmp_path, *CASES["apptainer_cpu"])
    pretended = "srun() { printf '%s\\n' \"$@\"; exit; }\n"
    done = subprocess.run(["bash"], input=pretended + text, text=True, capture_output=True, check=True)
    words = done.stdout.splitlines()
    assert words[words.index("apptainer") :] == [
        "apptainer", "exec", "--bind", "/my 'runs'/$(x)/s:/my 'runs'/$(x)/s", "--bind", "/scratch:/scratch",
        "--bind", "/data:/data:ro", "/shared/hyperformer.sif", "/opt/p/bin/python3", "-u", "-m",
        "launchers.job", "/my 'runs'/$(x)/s/submissions/1.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{runtime: aptainer, image: /a.sif}",
            r"container.runtime: must be apptainer or pyxis, not 'aptainer'",
        ),
        ("{runtime: pyxis, imag: x}", r"container.imag: unknown key 'imag'; did you mean 'image'"),
        ("{runtime: pyxis}", r"container: image is missing; write image: /shared/image.sif"),
        ("{image: /a.sif}", r"container: runtime is missing; write runtime: apptainer"),
        ("{runtime: apptainer, image: a.sif}", r"must be an absolute path .* or an address"),
        ("{runtime: apptainer, image: 3}", r"must be a file or a name of an image, not 3"),
        ("{runtime: pyxis, image: x, mounts: [data]}", r"'data' must be /PATH, /PATH:/INSIDE"),
        ("{runtime: pyxis, image: x, mounts: ['/a:/b:rx']}", r"'/a:/b:rx' must be"),
        ("{runtime: pyxis, image: x, mounts: ['/a,/b']}", r"'/a,/b' must be"),
        ("apptainer", r"container: must be a mapping"),
    ],
)
def test_the_key_is_strict(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"container: {text}")
    with pytest.raises(ConfigError, match="c.yaml, line 1") as error:
        load_profile(str(path))
    assert re.search(message, str(error.value)), error.value


def test_what_jobs_would_not_see_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "c.yaml").write_text(APPTAINER)
    container = load_profile(str(tmp_path / "c.yaml")).container
    assert container is not None
    (tmp_path / "s.yaml").write_text(
        "variants: [adapters]\ntasks: [rte]\n"
        "base: {data_source: folder, data_dir: /elsewhere, cache_dir: ~/rows, model_name_or_path: /data/t5}"
    )
    runs = load_plan(str(tmp_path / "s.yaml"), NO_PROFILE).runs
    assert list(container.findings((run.config for run in runs), Path("/runs/a,b"))) == [
        "container image /shared/hyperformer.sif: there is no such file; docs/docker.md says how to make one",
        "/runs/a,b: a path with ',' or ':' cannot be named to apptainer; choose another",
        "data_dir /elsewhere: jobs do not see it in the container; add /elsewhere to its `mounts:`",
    ]
