"""A job in a container on a real SLURM. The container runtime is pretended: it runs the command as it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from sweep_command import TOY, CommandLine


@pytest.mark.slow
def test_a_job_starts_in_the_container_of_the_profile(slurm_line: CommandLine) -> None:
    line = slurm_line
    pretended = line.folder / "pretended"
    pretended.mkdir()
    image = pretended / "image.sif"
    image.touch()
    runtime = pretended / "apptainer"
    # What stands behind the image is the command.
    runtime.write_text(
        f'#!/bin/bash\necho "$@" > {pretended}/words\nwhile [ "$1" != {image} ]; do shift; done\nshift\nexec "$@"\n'
    )
    runtime.chmod(0o755)
    line.environment["PATH"] = f"{pretended}{os.pathsep}{line.environment['PATH']}"
    (line.folder / "site.yaml").write_text(
        f"container: {{runtime: apptainer, image: {image}, mounts: [/usr/share]}}\npython: {sys.executable}\n"
        "resources: {gpus_per_node: 0, cpus_per_task: 1, mem_gb: 4, time: 5}\n"
    )
    # The fake run of the other tests lies outside of the container: this one is real, and short.
    base = TOY.replace("max_steps: 3", "max_steps: 1, n_train: 32, n_val: 8, n_test: 8")
    sweep = f"renew_report: false\nbase: {base}\nvariants: [adapters]\ntasks: [toy-sentiment]\n"
    (line.folder / "s.yaml").write_text(sweep)
    code, out = line.run("s.yaml", "--cluster", "site.yaml")
    assert code == 0, out
    line.run("status", "s.yaml", "-w")
    status = line.status()
    assert status["counts"] == {"done": 1}, status
    folder = Path(status["folder"])
    words = (pretended / "words").read_text()
    assert words.startswith(
        f"exec --bind {folder}:{folder} --bind /usr/share:/usr/share {image} {sys.executable} -u -m"
    )
    (log,) = folder.glob("submitit/*_log.out")
    assert log.stat().st_size, "the job wrote no log"


def test_an_image_that_is_not_there_is_found_before(slurm_line: CommandLine) -> None:
    line = slurm_line
    (line.folder / "site.yaml").write_text("container: {runtime: pyxis, image: /shared/none.sqsh}\n")
    (line.folder / "s.yaml").write_text(
        f"renew_report: false\nbase: {TOY}\nvariants: [adapters]\ntasks: [toy-sentiment]\n"
    )
    code, out = line.run("s.yaml", "--cluster", "site.yaml")
    assert code == 2 and "container image /shared/none.sqsh: there is no such file" in out
