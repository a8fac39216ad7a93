"""What is used of submitit, by name: its private functions are only in the versions that setup.py allows."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path

import pytest
import submitit
from places import ROOT

from launchers.slurm import submitit_executor
from launchers.slurm.commands import ClusterError
from launchers.slurm.submitit_executor import SubmittedJob

PRIVATE = {
    "_submit_command": ["self", "command"],
    "_make_submission_file_text": ["self", "command", "uid"],
    "_make_submission_command": ["self", "submission_file_path"],
    "_get_job_id_from_submission_command": ["string"],
}


def test_private_functions_and_versions() -> None:
    for name, parameters in PRIVATE.items():
        assert list(inspect.signature(getattr(submitit.SlurmExecutor, name)).parameters) == parameters
    used = set(re.findall(r"\b_\w+(?=\()", inspect.getsource(submitit_executor.submit)))
    assert used == PRIVATE.keys()
    assert '"submitit>=1.5.3,<1.6"' in (ROOT / "setup.py").read_text()
    assert (1, 5, 3) <= tuple(map(int, submitit.__version__.split(".")[:3])) < (1, 6)


def pretend_slurm(folder: Path, sbatch: str) -> None:
    for name, text in (("sbatch", sbatch), ("srun", "true")):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)


def test_submitit_writes_and_submits_the_very_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_slurm(
        tmp_path, f'echo "$@" >{tmp_path}/words; env >{tmp_path}/env; echo "Job 3 of 50"; echo "17;hpc2"'
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    logs = tmp_path / "logs"
    job = submitit_executor.submit(
        logs, "#!/bin/bash\ntrue\n", ["--dependency=afterany:9"], {"HF_TOKEN": "secret"}
    )
    assert job == SubmittedJob("17", "hpc2")
    assert (logs / "17_submission.sh").read_text() == "#!/bin/bash\ntrue\n"
    assert (tmp_path / "words").read_text().startswith("--parsable --dependency=afterany:9 ")
    given = (tmp_path / "env").read_text()
    assert "HF_TOKEN=secret\n" in given and "SBATCH_" not in given and "HF_TOKEN" not in os.environ


def test_what_slurm_has_against_it_is_said_once_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend_slurm(
        tmp_path, 'echo "sbatch: error: Note: hello" >&2; echo "allocation failure: no" >&2; exit 1'
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match="did not take the jobs: Note: hello; allocation failure: no"):
        submitit_executor.submit(tmp_path / "logs", "#!/bin/bash\n", [], {})
    assert capfd.readouterr().err == ""
    pretend_slurm(tmp_path, 'echo "Submitted batch job 3"')
    with pytest.raises(ClusterError, match="last line is not a job id"):
        submitit_executor.submit(tmp_path / "logs", "#!/bin/bash\n", [], {})
