"""How SLURM's commands are called: their environment, patience, and what is made of their answers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import manual_pages
import pytest

from launchers.slurm import commands
from launchers.slurm.commands import ClusterError, NoAnswer

# Of the manual pages of 25.11, besides those of the pages that are installed here.
NEWER = (
    "SBATCH_TRES_PER_TASK", "SBATCH_NTASKS", "SBATCH_SEGMENT_SIZE", "SBATCH_OOMKILLSTEP", "SRUN_CPUS_PER_TASK",
    "SACCT_FORMAT", "SQUEUE_EXPAND_PATTERNS", "SCONTROL_JSON", "SINFO_FORMAT", "SLURM_JSON", "SLURM_YAML",
)  # fmt: skip
JOB = {
    "RANK": "3",
    "LOCAL_RANK": "1",
    "PMI_RANK": "3",
    "SUBMITIT_EXECUTOR": "slurm",
    "CUDA_VISIBLE_DEVICES": "1",
}


def test_no_variable_of_the_manual_pages_reaches_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (manual_pages.variables(*manual_pages.PAGES) | set(NEWER)) - set(commands.KEPT)
    tool = tmp_path / "squeue"
    tool.write_text("#!/bin/sh\nexec /usr/bin/env\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", "/c")
    monkeypatch.setenv("HF_HOME", "/hf")
    for name in names:
        monkeypatch.setenv(name, "wrong")
    seen = dict(line.split("=", 1) for line in commands.check_output("squeue").splitlines())
    assert seen.items() >= {"SLURM_CONF": "/c", "HF_HOME": "/hf"}.items()
    assert not {name for name in names if seen.get(name) == "wrong"}


def test_a_job_submitted_from_a_job_does_not_know_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert commands.clean_environment().items() >= JOB.items()  # the user's own
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert not JOB.keys() & commands.clean_environment().keys()
    before = dict(os.environ)
    with commands.environment(commands.clean_environment()):
        assert "RANK" not in os.environ and "PATH" in os.environ
    assert dict(os.environ) == before


def test_what_the_shell_asks_for_is_said_to_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert commands.notes_on_shell() == []
    monkeypatch.setenv("SBATCH_TIMELIMIT", "1")
    (note,) = commands.notes_on_shell()
    assert note.startswith("not used: SBATCH_TIMELIMIT=1; what jobs ask for stands in")


@pytest.mark.parametrize(
    ("answer", "job"),
    [
        ("17\n", ("17", None)),
        ("17;hpc-2\n", ("17", "hpc-2")),
        ("Hello! You have submitted job 3 of 50.\n\n17\n", ("17", None)),
        ("Submitted batch job 17", None),
        ("17 18", None),
        ("", None),
    ],
)
def test_the_job_id_is_the_last_line_and_nothing_else(
    answer: str, job: tuple[str, str | None] | None
) -> None:
    if job:
        assert commands.submitted_job(answer) == job
    else:
        with pytest.raises(ClusterError, match="whose last line is not a job id"):
            commands.submitted_job(answer)


def test_a_greeting_does_not_hide_the_reason() -> None:
    told = "sbatch: error: Note: ask help@hpc\nallocation failure: Invalid account\nsbatch: error: x\n"
    assert commands.slurm_words(told) == "Note: ask help@hpc; allocation failure: Invalid account; x"


def test_commands_of_a_slurm_that_is_not_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "scontrol"
    tool.write_text(
        "#!/bin/sh\necho 'scontrol: error: s_p_parse_file: cannot stat file /no/slurm.conf: No such file' >&2\nexit 1\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", "/no/slurm.conf")
    with pytest.raises(ClusterError, match="SLURM_CONF=/no/slurm.conf is not there.: .*--cluster local"):
        commands.check_output("scontrol", "show", "config")


def test_patience_while_the_controller_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["Unable to contact slurm controller (connect failure)", None, ""])
    asked = []

    def run(command: tuple[str, ...], stdin: str) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        words = next(answers)
        if words is None:
            raise NoAnswer("too long")
        return subprocess.CompletedProcess(command, bool(words), "fine", words)

    monkeypatch.setattr(commands, "_run", run)
    monkeypatch.setattr(commands, "_PAUSE_S", 0.0)
    with pytest.raises(NoAnswer, match="SLURM does not answer: Unable to contact"):
        commands.check_output("squeue")
    answers = iter(["Unable to contact slurm controller (connect failure)", None, ""])
    assert commands.check_output("squeue", patience_s=60, cluster="two") == "fine"
    assert asked[-3:] == [("squeue", "--clusters=two")] * 3


def test_a_command_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match="squeue is not here"):
        commands.check_output("squeue")
    assert not commands.is_available()
