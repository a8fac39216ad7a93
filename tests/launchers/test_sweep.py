"""The command line, from end to end on this machine; the jobs train with the fake run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sweep_command import REPOSITORY, TOY, CommandLine

from launchers.submit import local_queue

WriteSweep = Callable[[str], Path]


def sweep_text(seeds: str, more: str = "") -> str:
    return f"""
        renew_report: false
        base: {TOY}
        variants: [hyperformer++, adapters]
        tasks: [toy-sentiment, toy-paraphrase]
        overrides: {{hyperformer++: {{seed: [{seeds}]}}}}
        {more}
        """


def test_from_sweep_to_table_and_again(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    write_sweep(sweep_text("1, 2"))
    code, out = command_line.run("s.yaml", "--cluster", "local")
    assert code == 0, out
    assert "4 of 4 runs to start" in out
    assert (
        "51.5 ±0.7" in out
        and "report: runs/s/report/index.html\nfor a paper: runs/s/report/table.tex\n" in out
    )
    assert (command_line.folder / "runs/s/report/table.tex").is_file()
    assert max(map(len, out.splitlines())) <= 100 or "Traceback" not in out
    report = (command_line.folder / "runs/s/report/report.md").read_text()
    assert "| hyperformer++ | 51.5 ±0.7 | 52.5 ±0.7 | 52.0 ±0.7 | 52.0 ±0.7 |" in report

    shutil.copy(command_line.folder / "s.yaml", command_line.folder / "t.yaml")
    code, out = command_line.run("compare", "s.yaml", "t.yaml", "--output", "runs/s/report")
    assert code == 2 and "runs/s/report has other files in it" in out  # the sweep's own report
    assert (command_line.folder / "runs/s/report/report.md").read_text() == report

    status = command_line.status()
    assert status["counts"] == {"done": 4}
    assert {run["attempt"] for run in status["runs"].values()} == {1}
    code, out = command_line.run("submit", "s.yaml", "--cluster", "local")
    assert code == 0 and "0 of 4 runs to start, 4 done" in out
    assert {run["attempt"] for run in command_line.status()["runs"].values()} == {1}

    write_sweep(sweep_text("1, 2, 3"))  # one more line, one more run
    code, out = command_line.run("submit", "s.yaml", "--cluster", "local")
    assert code == 0 and "1 of 5 runs to start, 4 done" in out

    code, out = command_line.run("logs", "s.yaml", "hyper*1")
    assert code == 0 and "start at step 0; threads" in out
    assert "==> hyperformer++-seed1 (attempt 1) stdout.log <==" in out
    write_sweep(sweep_text("1"))  # removing lines cancels nothing
    code, out = command_line.run("status", "s.yaml")
    assert code == 0 and "2 earlier runs are no longer in the sweep file" in out
    assert re.search(r"next: python \S*sweep.py report s.yaml", out)


def test_failures_are_told_and_tried_again(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    write_sweep(sweep_text("13, 14, 15"))
    code, out = command_line.run("s.yaml", "--cluster", "local")
    assert code == 1
    assert "hyperformer++-seed13: failed, DataError: row 7 has no label" in out
    assert "hyperformer++-seed14: failed" in out and "about to be killed" in out
    assert "2 of 3" not in out and "3 of 3 runs have no result" in out
    assert "Traceback" not in out
    code, out = command_line.run("s.yaml", "--cluster", "local")
    assert code == 1 and "3 of 5 runs to start, 2 done" in out
    runs = command_line.status()["runs"]
    assert runs["hyperformer++-seed15"]["state"] == "done"
    assert runs["hyperformer++-seed13"]["attempt"] == 2
    code, out = command_line.run("status", "s.yaml")
    assert code == 1 and "logs s.yaml hyperformer++-seed13" in out


def test_dry_run_does_nothing(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    path = write_sweep(sweep_text("1"))
    for words in (["-n"], ["--dry-run", "--cluster", "slurm"]):
        code, out = command_line.run("submit", "s.yaml", *words)
        assert code == 0 and "3 of 3 runs to start" in out and "nothing was done" in out
    code, out = command_line.run("cancel", "s.yaml", "-n")
    assert code == 0
    assert list(command_line.folder.iterdir()) == [path]


def test_the_next_command_goes_where_the_last_one_went(
    command_line: CommandLine, write_sweep: WriteSweep
) -> None:
    """Also where there is an sbatch whose SLURM is dead."""
    sbatch = command_line.folder / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text("#!/bin/sh\nexit 1\n")
    sbatch.chmod(0o755)
    command_line.environment["PATH"] = f"{sbatch.parent}:{os.environ['PATH']}"
    write_sweep(sweep_text("1"))
    assert command_line.run("s.yaml", "--cluster", "local")[0] == 0
    for run in command_line.status()["runs"].values():
        shutil.rmtree(run["folder"])
    write_sweep(sweep_text("2"))
    code, out = command_line.run("status", "s.yaml")
    (suggested,) = re.findall(r"next: python \S+ (.*)", out)
    assert code == 0 and suggested == "submit s.yaml"
    code, out = command_line.run(*suggested.split())
    assert code == 0 and "hyperformer++: done" in out, out


def test_looking_makes_no_files(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    path = write_sweep(sweep_text("1"))
    for words in ("plan s.yaml", "status s.yaml", "status s.yaml -w", "logs s.yaml *"):
        assert command_line.run(*words.split())[0] == 0
    assert list(command_line.folder.iterdir()) == [path]


def wait_for(what: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


SLOW = TOY.replace("max_steps: 3", "max_steps: 100").replace("0.01", "0.3")


def test_ctrl_c_saves_and_the_next_start_goes_on(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    write_sweep(sweep_text("1").replace(TOY, SLOW))
    process = command_line.start("s.yaml", "--cluster", "local", "--max-parallel", "1")
    steps = command_line.folder / "runs/s"
    wait_for(lambda: any(path.read_text() not in ("", "0") for path in steps.glob("hyper*/checkpoints/step")))

    # Meanwhile nobody else may start these runs.
    code, out = command_line.run("s.yaml", "--cluster", "local")
    assert code == 2 and f"being submitted by process {process.pid}" in out

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that runs in it
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130, out
    assert "stopping: the runs save" in out and "to resume the runs from where they saved" in out
    status = command_line.status()
    assert status["counts"] == {"missing": 2, "stopped": 1}
    assert 0 < status["runs"]["hyperformer++"]["step"] < 100
    assert not list(steps.glob("*/attempts/*/*result.pkl.save_tmp"))

    # The same runs with no time a step: another signature, so resume is seen by starting again.
    process = command_line.start("s.yaml", "--cluster", "local", "--max-parallel", "1")
    wait_for(lambda: any("going on" in path.read_text() or "start at step" in path.read_text()
                         for path in steps.glob("hyper*/attempts/2/stdout.log")))  # fmt: skip
    text = next(steps.glob("hyper*/attempts/2/stdout.log")).read_text()
    assert "start at step 0" not in text

    # Cancel from elsewhere: what runs saves, what waits is not started.
    code, out = command_line.run("cancel", "s.yaml")
    assert code == 0 and "cancel hyperformer++ (running)" in out
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert command_line.status()["counts"] == {"cancelled": 3}


def test_second_ctrl_c_kills(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    write_sweep(sweep_text("1").replace(TOY, SLOW.replace("0.3", "30.0")))
    process = command_line.start("s.yaml", "--cluster", "local", "--max-parallel", "1")
    logs = command_line.folder / "runs/s"
    wait_for(lambda: any("start at" in path.read_text() for path in logs.glob("*/attempts/1/stdout.log")))
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None  # it waits for the step to end
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert command_line.status()["counts"] == {"missing": 2, "stopped": 1}


@pytest.mark.slow
def test_a_run_outlives_its_launcher_and_is_left_alone(
    command_line: CommandLine, write_sweep: WriteSweep
) -> None:
    write_sweep(sweep_text("1").replace(TOY, SLOW.replace("100", "40")).replace(", adapters]", "]"))
    process = command_line.start("s.yaml", "--cluster", "local")
    wait_for(lambda: bool(list(command_line.folder.glob("runs/s/*/attempts/1/started.json"))))
    process.kill()
    process.wait()  # its pipe stays open: the run has it too
    assert command_line.status()["counts"] == {"running": 1}
    code, out = command_line.run("s.yaml", "--cluster", "local")  # takes the stale lock, waits for the run
    assert code == 0 and "0 of 1 runs to start, 1 running" in out and "51.5" in out
    assert command_line.status()["runs"]["hyperformer++"]["attempt"] == 1


@pytest.mark.slow
def test_a_run_has_one_trainer_whichever_process_is_killed(
    command_line: CommandLine, write_sweep: WriteSweep
) -> None:
    """Killing the process that runs are forked from ends none of them, and starts nothing twice."""
    write_sweep(sweep_text("1").replace(TOY, SLOW.replace("100", "30")))
    process = command_line.start("s.yaml", "--cluster", "local", "--max-parallel", "1")
    wait_for(lambda: bool(list(command_line.folder.glob("runs/s/*/attempts/1/started.json"))))
    wait_for(lambda: bool(list(command_line.folder.glob("runs/s/*/checkpoints/step"))))
    job = json.loads(next(command_line.folder.glob("runs/s/*/attempts/1/job.json")).read_text())
    listing = subprocess.run(
        ["ps", "--ppid", f"{process.pid}", "-o", "pid=,args="], capture_output=True, text=True
    )
    (preloaded,) = (
        line.split()[0] for line in listing.stdout.splitlines() if "launchers.job.preload" in line
    )
    os.kill(int(preloaded), signal.SIGKILL)
    status = command_line.status()
    run = status["runs"]["hyperformer++"]
    assert run["state"] == "running" and run["job_id"] == str(job["pid"])
    # The others wait for it, and whoever watches waits with them.
    assert status["counts"] == {"running": 1, "waiting": 2}
    watch = command_line.start("status", "s.yaml", "-w")
    process.communicate(timeout=300)
    out, _ = watch.communicate(timeout=300)
    assert (process.returncode, watch.returncode) == (0, 0) and out.count(": done") == 3, out
    logs = list(command_line.folder.glob("runs/s/*/attempts/*/stdout.log"))
    assert len(logs) == 3 and all(path.read_text().count("start at step") == 1 for path in logs)
    assert (
        sum("the preloaded one is lost: it ended with exit code -9" in path.read_text() for path in logs) == 2
    )


def test_the_process_that_status_shows_is_the_one_that_trains(
    command_line: CommandLine, write_sweep: WriteSweep
) -> None:
    """A user who ends it by hand gets a run that has saved, and no second trainer."""
    write_sweep(sweep_text("1").replace(TOY, SLOW).replace(", adapters]", "]"))
    process = command_line.start("s.yaml", "--cluster", "local")
    wait_for(lambda: bool(list(command_line.folder.glob("runs/s/*/checkpoints/step"))))
    os.kill(int(command_line.status()["runs"]["hyperformer++"]["job_id"]), signal.SIGTERM)
    process.communicate(timeout=300)
    run = command_line.status()["runs"]["hyperformer++"]
    assert run["state"] == "stopped" and run["step"] > 0 and run["attempt"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.yaml"], "no such sweep file"),
        (["s.yaml", "--max-parallel", "0"], "must be a whole number of at least 1"),
        (["s.yaml", "--cluster", "cloud"], "no such profile"),
        (["logs", "s.yaml", "hyperfomer++"], "did you mean 'hyperformer++'"),
        (["cancel", "s.yaml", "x*"], "no run is named 'x*'"),
        (["s.yaml", "--runs-dir", "s.yaml/x"], "is not a folder"),
    ],
)
def test_bad_input(
    command_line: CommandLine, write_sweep: WriteSweep, words: list[str], message: str
) -> None:
    write_sweep(sweep_text("1"))
    code, out = command_line.run(*words)
    assert code == 2 and message in out and "Traceback" not in out


def test_preflight_tells_all_at_once(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    (command_line.folder / "data/rte").mkdir(parents=True)
    write_sweep("""
        base: {data_source: folder, data_dir: data, model_name_or_path: ./no-model, deepspeed_config: x.json}
        variants: [finetune]
        tasks: [rte, cola]
        """)
    code, out = command_line.run("s.yaml", "--cluster", "local")
    assert code == 2
    for message in ("no folder cola", "/no-model: there is no such", "x.json: there is no such"):
        assert message in out
    assert not (command_line.folder / "runs").exists()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv = ['launchers/sweep.py', '--help']\n"
        "try: runpy.run_path('launchers/sweep.py', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'deepspeed', 'submitit', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "submit" in done.stdout and "exit codes" in done.stdout


def test_gpus_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_queue.gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-ab")
    assert local_queue.gpus() == ["2", "GPU-ab"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g'\necho 'GPU 1: A (UUID: y)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert local_queue.gpus() == ["0", "1"]
    monkeypatch.setenv("PATH", "")
    assert local_queue.gpus() == []


def test_one_run_a_gpu(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    write_sweep(sweep_text("1, 2, 3").replace(", adapters]", "]"))
    command_line.environment["CUDA_VISIBLE_DEVICES"] = "5, GPU-ab"
    code, out = command_line.run("s.yaml", "--cluster", "local", "--max-parallel", "8")
    assert code == 0, out
    logs = command_line.folder.glob("runs/s/*/attempts/1/stdout.log")
    gpus = [re.findall(r"gpus (\S+)", path.read_text())[0] for path in logs]
    assert sorted(gpus)[0] == "5" and set(gpus) == {"5", "GPU-ab"}


def test_runs_that_share_gpus(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    free = local_queue.free_gpu
    assert free(1, {"0": [], "1": []}) == "0" and free(1, {"0": [1], "1": []}) == "1"
    assert free(4, {"0": [4, 4, 4], "1": [4, 4]}) == "1" and free(2, {"0": [2, 2]}) is None
    # Each decides how many it shares with.
    assert (
        free(4, {"0": [1], "1": [2, 2]}) is None
        and free(1, {"0": [4]}) is None
        and free(2, {"0": [4]}) == "0"
    )

    text = sweep_text("1, 2, 3", "resources: {pack: 3}").replace("weight_decay: 0.01", "weight_decay: 1.0")
    write_sweep(text.replace(", adapters]", "]"))
    command_line.environment["CUDA_VISIBLE_DEVICES"] = "GPU-ab"
    code, out = command_line.run("s.yaml", "--cluster", "local")
    assert code == 0, out
    jobs = [json.loads(path.read_text()) for path in command_line.folder.glob("runs/s/*/attempts/1/job.json")]
    assert [job["gpu"] for job in jobs] == 3 * ["GPU-ab"]
    ends = [path.stat().st_mtime for path in command_line.folder.glob("runs/s/*/result.json")]
    assert max(job["submitted"] for job in jobs) < min(ends), "they did not run at the same time"


def test_awkward_folder_names(command_line: CommandLine, write_sweep: WriteSweep) -> None:
    write_sweep(sweep_text("1").replace(", adapters]", "]"))
    code, out = command_line.run("s.yaml", "--cluster", "local", "--runs-dir", "my 'runs' $(x)")
    assert code == 0, out
    assert "next: " in out and """--runs-dir 'my '"'"'runs'"'"' $(x)'""" in out
